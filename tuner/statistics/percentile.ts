/**
 * Percentiles of a sample: the least value that a share of all does not exceed.
 *
 * In      values in any order; a share 0 … 1
 * Out     one of the values; NaN where there is none
 * Source  nearest rank (as bench/spread.ts), so that a percentile was really measured
 */
export function percentile(values: readonly number[], share: number): number {
  return percentileOfSorted(Float64Array.from(values).sort(), share);
}

export function percentileOfSorted(sorted: ArrayLike<number>, share: number): number {
  const rank = Math.max(1, Math.ceil(sorted.length * share - 1e-9));
  return sorted[rank - 1] ?? Number.NaN;
}

export const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** A sample's: divided by one less than there are. */
export function deviation(values: readonly number[]): number {
  const middle = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
}
