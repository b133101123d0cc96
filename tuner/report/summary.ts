/**
 * What came of it, in sentences.
 *
 * In      an outcome
 * Out     the sentence in Model Analyzer's form, the winner in words, what failed and by how much
 */
import type { TunePlan } from '../plan/tune-plan.js';
import type { Outcome, VariantOutcome } from '../run/outcome.js';
import { METRICS, showMetric } from '../units/metrics.js';
import { settingsWords } from './settings-words.js';

export interface Summary {
  /** "In 24 measurements across 9 configurations, …" */
  headline: string;
  lines: string[];
  winner: VariantOutcome | null;
}

export function summaryOf(outcome: Outcome, plan: TunePlan, machine: string): Summary {
  const { base, ranked, verdict } = outcome;
  const names = plan.models.map(({ name }) => name);
  const configurations = ranked.length;
  const counted = `In ${outcome.measurements} measurements across ${configurations} configurations`;
  const hasConstraints = plan.models.some(({ constraints }) => constraints.length > 0);
  const under = hasConstraints ? ', under the given constraints' : '';
  const on = `, on ${machine}`;
  const best = ranked[0] ?? null;
  const lines: string[] = [];
  const infeasible = ranked.filter((variant) => variant.best === null);
  if (base !== null && !base.passes) {
    lines.push(
      base.best === null
        ? `The default could not be served: ${base.failures.join('; ')}.`
        : `The default does not meet the constraints: ${base.failures.join('; ')}.`,
    );
  }
  if (infeasible.length > 0) {
    lines.push(`${infeasible.length} of the configurations could not be served; why stands beside each.`);
  }
  const unproved =
    'It was measured once beside the default, so noise is not ruled out: compare.rounds repeats them.';
  if (best === null || best.best === null) {
    return { headline: `${counted}, none could be served${on}.`, lines, winner: null };
  }
  if (outcome.passing === 0) {
    lines.unshift(
      `Nearest: ${best.name} (${settingsWords(best.settings, names)}): ${best.failures.join('; ')}.`,
    );
    return { headline: `${counted}, none meets the constraints${on}.`, lines, winner: null };
  }
  const winner = verdict === null ? null : (ranked.find(({ name }) => name === verdict.winner) ?? null);
  if (verdict === null) {
    const isDefault = best.isDefault;
    if (!isDefault) lines.push(unproved);
    const gain = best.score === null ? '' : `, ${signed(100 * best.score)} % by score beside the default`;
    return {
      headline: isDefault
        ? `${counted}, no configuration was better than the default at ${goalWords(plan)}${under}${on}.`
        : `${counted}, ${best.name} came out best at ${goalWords(plan)}${under}${gain}${on}.`,
      lines,
      winner: isDefault ? null : best,
    };
  }
  lines.unshift(verdict.sentence);
  if (winner === null) {
    return {
      headline: `${counted}, no configuration provides a gain over the default at ${goalWords(plan)}${under}${on}.`,
      lines,
      winner: null,
    };
  }
  lines.push(`${winner.name}: ${settingsWords(winner.settings, names)}.`);
  const compared = verdict.compared.find(({ name }) => name === winner.name);
  const percent = compared?.percent ?? null;
  return {
    headline: !verdict.defaultHolds
      ? `${counted}, ${winner.name} is the best that meets the constraints at ${goalWords(plan)}; the default does not meet them${on}.`
      : `${counted}, ${winner.name} is ${Math.round(percent ?? 0)}% better than the default configuration at ${goalWords(plan)}${under}${on}.`,
    lines,
    winner,
  };
}

/** As Model Analyzer says it, but by what was really asked. */
export function goalWords(plan: TunePlan): string {
  const metrics = [
    ...new Set(plan.models.flatMap(({ objectives }) => objectives.map(({ metric }) => metric))),
  ];
  if (metrics.length !== 1) return 'meeting the objectives';
  const { better, title } = METRICS[metrics[0]!];
  const words = /^p\d/.test(title) ? title : title.charAt(0).toLowerCase() + title.slice(1);
  return `${better === 'more' ? 'maximizing' : 'minimizing'} ${words}`;
}

export const constraintWords = (plan: TunePlan): string => {
  const all = plan.models.flatMap(({ constraints, name }) =>
    constraints.map(({ max, metric, min }) => {
      const who = plan.models.length > 1 ? `${name}: ` : '';
      const parts = [
        ...(min === null ? [] : [`Min ${METRICS[metric].title}: ${showMetric(metric, min)}`]),
        ...(max === null ? [] : [`Max ${METRICS[metric].title}: ${showMetric(metric, max)}`]),
      ];
      return `${who}${parts.join(', ')}`;
    }),
  );
  return all.length === 0 ? 'None' : all.join(', ');
};

const signed = (value: number): string => `${value >= 0 ? '+' : ''}${value.toFixed(1)}`;
