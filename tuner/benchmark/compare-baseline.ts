/**
 * Whether this run is worse than a saved one, beyond noise.
 *
 * In      of each case and metric the values of its repeats, then and now
 * Out     a row each: medians, change, p; worse or better only with p at most alpha and a change of at least leastEffect
 * Limits  fewer than three repeats on a side say nothing, and are told so
 * Source  Mann and Whitney's test: no assumption about the distribution, and one wild repeat decides nothing
 */
import { mannWhitney } from '../statistics/mann-whitney.js';
import { percentile } from '../statistics/percentile.js';
import { METRICS, type Metric } from '../units/metrics.js';

/** Case → metric → the value of each repeat. */
export type CaseValues = Readonly<Record<string, Partial<Record<Metric, readonly number[]>>>>;

export interface ComparisonRow {
  caseName: string;
  metric: Metric;
  before: number;
  after: number;
  /** A share of before; an absolute difference where before is 0. */
  change: number;
  p: number;
  verdict: 'worse' | 'better' | 'same' | 'too few repeats';
}

export interface ComparisonOptions {
  metrics: readonly Metric[];
  alpha: number;
  leastEffect: number;
}

const LEAST_REPEATS = 3;

export function compareBaseline(
  before: CaseValues,
  after: CaseValues,
  options: ComparisonOptions,
): ComparisonRow[] {
  return Object.entries(after).flatMap(([caseName, values]) =>
    options.metrics.flatMap((metric) => {
      const [then, now] = [before[caseName]?.[metric], values[metric]];
      if (!then?.length || !now?.length) return [];
      return [row(caseName, metric, then, now, options)];
    }),
  );
}

function row(
  caseName: string,
  metric: Metric,
  then: readonly number[],
  now: readonly number[],
  { alpha, leastEffect }: ComparisonOptions,
): ComparisonRow {
  const [before, after] = [percentile(then, 0.5), percentile(now, 0.5)];
  const change = before === 0 ? after : (after - before) / before;
  const { p } = mannWhitney(then, now);
  const verdictOf = (): ComparisonRow['verdict'] => {
    if (Math.min(then.length, now.length) < LEAST_REPEATS) return 'too few repeats';
    if (p > alpha || Math.abs(change) < leastEffect) return 'same';
    return change > 0 === (METRICS[metric].better === 'more') ? 'better' : 'worse';
  };
  return { caseName, metric, before, after, change, p, verdict: verdictOf() };
}
