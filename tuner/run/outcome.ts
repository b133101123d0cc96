/**
 * Measurements → configurations in order, the default, the verdict. Pure: the same journal under other constraints is judged again
 * without measuring anything.
 *
 * In      measurements, goals, names of the models
 * Out     Outcome
 * How     a configuration stands for its best measurement: one that passes before one that fails, then by score; measurements that fail are
 *         ordered by how far they are from the limits
 */
import type { Goals } from '../decide/goals.js';
import { type Verdict, type VerdictOptions, verdict } from '../decide/verdict.js';
import type { Settings } from '../space/space.js';
import { type Measurement, settingsKey } from './measurement.js';

export interface VariantOutcome {
  name: string;
  isDefault: boolean;
  settings: Settings;
  /** The search's, in the order they were made. */
  measurements: Measurement[];
  /** null: it could not be served. */
  best: Measurement | null;
  passes: boolean;
  /** Why not; empty: it passes. */
  failures: string[];
  /** Beside the default's best; null: one of both could not be served. */
  score: number | null;
  repeats: Measurement[];
}

export interface Outcome {
  /** Best first; the default among them. */
  ranked: VariantOutcome[];
  base: VariantOutcome | null;
  /** null: nothing was repeated, so nothing is proved. */
  verdict: Verdict | null;
  measurements: number;
  passing: number;
}

export function outcomeOf(all: readonly Measurement[], goals: Goals, options: VerdictOptions): Outcome {
  const variants = variantsOf(all, goals);
  const base = variants.find(({ isDefault }) => isDefault) ?? null;
  for (const variant of variants) {
    const can = variant.best !== null && base?.best !== null && base !== null;
    variant.score = can ? goals.score(variant.best!, base.best!) : null;
  }
  const ranked = [...variants].sort((a, b) => compareVariants(a, b, goals));
  return {
    ranked,
    base,
    verdict: verdictOf(ranked, base, goals, options),
    measurements: all.length,
    passing: variants.filter(({ passes }) => passes).length,
  };
}

function variantsOf(all: readonly Measurement[], goals: Goals): VariantOutcome[] {
  const prefix = goals.models.map(({ model }) => model).join('+');
  const found = new Map<string, VariantOutcome>();
  let number = 0;
  for (const measurement of all) {
    const key = settingsKey(measurement.settings);
    const isDefault = Object.keys(measurement.settings).length === 0;
    let variant = found.get(key);
    if (!variant) {
      variant = {
        name: `${prefix}_config_${isDefault ? 'default' : number++}`,
        isDefault,
        settings: measurement.settings,
        ...{ measurements: [], best: null, passes: false, failures: [], score: null, repeats: [] },
      };
      found.set(key, variant);
    }
    (measurement.round === 0 ? variant.measurements : variant.repeats).push(measurement);
  }
  for (const variant of found.values()) {
    const of = variant.measurements.length > 0 ? variant.measurements : variant.repeats;
    variant.best = of.reduce<Measurement | null>(
      (best, one) =>
        one.outcome === 'measured' && (best === null || isBetter(one, best, goals)) ? one : best,
      null,
    );
    variant.passes = variant.best !== null && goals.passes(variant.best);
    variant.failures = goals.failures(variant.best ?? of[0]!);
  }
  return [...found.values()];
}

export function isBetter(a: Measurement, b: Measurement, goals: Goals): boolean {
  const [far, near] = [goals.distance(a), goals.distance(b)];
  if (far !== near) return far < near;
  return goals.score(a, b) > 0;
}

function compareVariants(a: VariantOutcome, b: VariantOutcome, goals: Goals): number {
  if (a.best === null || b.best === null) return Number(a.best === null) - Number(b.best === null);
  return isBetter(a.best, b.best, goals) ? -1 : isBetter(b.best, a.best, goals) ? 1 : 0;
}

function verdictOf(
  ranked: readonly VariantOutcome[],
  base: VariantOutcome | null,
  goals: Goals,
  options: VerdictOptions,
): Verdict | null {
  const repeated = ranked.filter(({ isDefault, repeats }) => !isDefault && repeats.length > 0);
  if (base === null || base.repeats.length === 0 || repeated.length === 0) return null;
  const inRounds = ({ name, repeats }: VariantOutcome) => ({
    name,
    repeats: [...repeats].sort((a, b) => a.round - b.round),
  });
  return verdict(repeated.map(inRounds), inRounds(base), goals, options);
}
