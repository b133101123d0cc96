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

/** A rank's heads: its queries, and the keys and values that they read. */
export interface HeadSlices {
  query: Slice;
  kv: Slice;
}

/**
 * Heads of each rank, none with more than one head of keys and values more than another. KV heads fewer than ranks are held by
 * several, which share the queries of its group.
 *
 * @returns null: a rank would have none
 */
export function headSlices(numHeads: number, numKvHeads: number, worldSize: number): HeadSlices[] | null {
  const group = numHeads / numKvHeads;
  if (worldSize <= numKvHeads) {
    return shares(numKvHeads, worldSize).map((kv) => ({
      query: { start: kv.start * group, count: kv.count * group },
      kv,
    }));
  }
  return shares(worldSize, numKvHeads).every(({ count }) => count <= group)
    ? shares(worldSize, numKvHeads).flatMap(({ count }, head) =>
        shares(group, count).map(({ start, count: queries }) => ({
          query: { start: head * group + start, count: queries },
          kv: { start: head, count: 1 },
        })),
      )
    : null;
}

/** `total` in so many shares that differ by one at most, the larger ones first. */
function shares(total: number, count: number): Slice[] {
  const least = Math.floor(total / count);
  const more = total % count;
  return Array.from({ length: count }, (_, index) => ({
    start: index * least + Math.min(index, more),
    count: least + (index < more ? 1 : 0),
  }));
}
