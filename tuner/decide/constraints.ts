/**
 * What a configuration must keep.
 *
 * In      limits of metrics, a model's figures
 * Out     whether all hold; what fails, by how much of its limit; a metric that was not measured holds no limit
 */
import { type Figures, isMetric, METRICS, type Metric, showMetric } from '../units/metrics.js';

export interface Constraint {
  metric: Metric;
  min: number | null;
  max: number | null;
}

export interface Violation {
  constraint: Constraint;
  value: number | null;
  /** A share of the limit. */
  distance: number;
}

export function violations(figures: Figures, constraints: readonly Constraint[]): Violation[] {
  return constraints.flatMap((constraint) => {
    const { max, metric, min } = constraint;
    const value = figures[metric] as number | null;
    const distance = distanceOf(value, min, max);
    return distance === 0 ? [] : [{ constraint, value, distance }];
  });
}

/** 0: it holds. Something that cannot be seen fails by all of its limit. */
function distanceOf(value: number | null, min: number | null, max: number | null): number {
  if (value === null) return 1;
  const relative = (by: number, limit: number): number => (limit === 0 ? by : by / Math.abs(limit));
  if (max !== null && value > max) return relative(value - max, max);
  if (min !== null && value < min) return relative(min - value, min);
  return 0;
}

export const failureDistance = (figures: Figures, constraints: readonly Constraint[]): number =>
  violations(figures, constraints).reduce((sum, { distance }) => sum + distance, 0);

/** "p99 latency at most 30.00 ms". */
export function showConstraint({ max, metric, min }: Constraint): string {
  const parts = [
    ...(min === null ? [] : [`at least ${showMetric(metric, min)}`]),
    ...(max === null ? [] : [`at most ${showMetric(metric, max)}`]),
  ];
  return `${METRICS[metric].title} ${parts.join(' and ')}`;
}

/** "p99 latency 61.00 ms > 30.00 ms". */
export function showViolation({ constraint: { max, metric, min }, value }: Violation): string {
  const { title } = METRICS[metric];
  if (value === null) return `${title} was not measured`;
  const isAbove = max !== null && value > max;
  return `${title} ${showMetric(metric, value)} ${isAbove ? '>' : '<'} ${showMetric(metric, isAbove ? max : min)}`;
}

export { isMetric };
