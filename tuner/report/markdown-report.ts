/**
 * The report for a pull request or a README.
 *
 * In      plan, outcome, conditions
 * Out     Markdown
 */
import { showConstraint } from '../decide/constraints.js';
import type { JournalHeader } from '../journal/journal.js';
import type { TunePlan } from '../plan/tune-plan.js';
import type { Outcome } from '../run/outcome.js';
import { constraintWords, type Summary } from './summary.js';
import { markdownOf, summaryTable } from './tables.js';

/** Beside the default. */
const SHOWN = 3;
const MAX_ROWS = 40;

export interface ReportInput {
  plan: TunePlan;
  outcome: Outcome;
  summary: Summary;
  header: JournalHeader;
  /** ISO, of the last measurement. */
  at: string;
}

/** The best few and the default, as Model Analyzer's summary has them. */
export function shownVariants({ ranked }: Outcome, count = SHOWN) {
  const best = ranked.slice(0, count);
  const base = ranked.find(({ isDefault }) => isDefault);
  return base === undefined || best.includes(base) ? best : [...best, base];
}

export function markdownReport({ at, header, outcome, plan, summary }: ReportInput): string {
  const models = plan.models.map(({ name }) => name).join(', ');
  const shown = shownVariants(outcome);
  const goals = plan.models.flatMap(({ constraints, name, objectives }) => [
    ...constraints.map((one) => `- ${name}: ${showConstraint(one)}`),
    `- ${name}: objectives ${objectives.map(({ metric, weight }) => `${metric} × ${weight}`).join(', ')}`,
  ]);
  const repeats = outcome.verdict?.compared.map(
    ({ gain, name, passed, percent, rounds }) =>
      `| ${name} | ${percent === null ? '–' : `${percent.toFixed(1)} %`} | ${gain === null ? '–' : `${(100 * gain.low).toFixed(1)} … ${(100 * gain.high).toFixed(1)} %`} | ${passed} of ${rounds} |\n`,
  );
  return [
    `# Result Summary\n\nModel: ${models}  \nDate: ${at}  \nConstraint targets: ${constraintWords(plan)}\n`,
    `${summary.headline}\n`,
    ...(summary.lines.length > 0 ? [`${summary.lines.map((line) => `- ${line}`).join('\n')}\n`] : []),
    'The following table summarizes each configuration at the measurement that optimizes the desired metrics under the given constraints.\n',
    markdownOf(summaryTable(shown, plan)),
    ...(repeats
      ? [
          `## Repeats beside the default, in turns\n\n| configuration | gain | ${100 * plan.verdict.level} % interval of the score, all candidates together | met the constraints |\n|---|---|---|---|\n${repeats.join('')}`,
        ]
      : []),
    `## All configurations\n\n${markdownOf(summaryTable(outcome.ranked.slice(0, MAX_ROWS), plan))}`,
    `## Goals\n\n${goals.join('\n')}\n`,
    `## Conditions\n\n${Object.entries(header)
      .map(([name, value]) => `- ${name}: ${value}`)
      .join('\n')}\n`,
  ].join('\n');
}
