/** Repeated measurements in three numbers. */
export interface Spread {
  min: number;
  median: number;
  max: number;
}

/** The median is one of the values: the lower of the two middle ones where their number is even. */
export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (index: number): number => sorted[index] ?? Number.NaN;
  return { min: at(0), median: at((sorted.length - 1) >> 1), max: at(sorted.length - 1) };
}
