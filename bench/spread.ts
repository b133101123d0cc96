/** Repeated measurements in four numbers. */
export interface Spread {
  min: number;
  median: number;
  p95: number;
  max: number;
}

/** Each is one of the values: the median the lower of the two middle ones where their number is even, p95 the least that 95 % do not exceed. */
export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (index: number): number => sorted[index] ?? Number.NaN;
  return {
    min: at(0),
    median: at((sorted.length - 1) >> 1),
    p95: at(Math.ceil(sorted.length * 0.95) - 1),
    max: at(sorted.length - 1),
  };
}
