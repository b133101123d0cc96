/**
 * Which rows or columns of a whole tensor a rank holds.
 *
 * In      sizes of the whole, number of ranks
 * Out     ranges, and sizes of one rank with padding
 * Pure
 */

/** A range of rows or columns of a whole tensor; what lies beyond `count` on a rank is zero padding. */
export interface Slice {
  start: number;
  count: number;
}

/** What rank r holds of `total` when every rank takes `perRank`: the last ones may hold less, or nothing. */
export function evenSlices(total: number, perRank: number, worldSize: number): Slice[] {
  return Array.from({ length: worldSize }, (_, rank) => {
    const start = Math.min(total, rank * perRank);
    return { start, count: Math.min(perRank, total - start) };
  });
}

/** `total` cut evenly over the ranks in multiples of `unit`, rounded up. */
export function perRankPadded(total: number, worldSize: number, unit: number): number {
  return Math.ceil(total / (worldSize * unit)) * unit;
}

/** First of a rank's heads. Heads fewer than ranks are held by several. */
export const firstHead = (rank: number, heads: number, worldSize: number): number =>
  Math.floor((rank * heads) / worldSize);
