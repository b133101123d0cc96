/**
 * Sums over ranks, in rank order, in float32: ((r0 + r1) + r2) + …, so that every rank gets the same bits.
 *
 * Free functions on typed arrays, the case of two ranks apart: they are the only loop of a collective over all of its data
 * (2048 values at a decode of one token, 1 M at a prefill chunk of 512), and stay monomorphic this way.
 * `Math.fround` keeps every partial result in float32; the compiler then adds in float32 throughout.
 */

/** sum[i] = first[i] + second[i] for i < floats. */
export function sumOfTwo(sum: Float32Array, first: Float32Array, second: Float32Array, floats: number): void {
  const whole = floats & ~3;
  let i = 0;
  for (; i < whole; i += 4) {
    sum[i] = Math.fround(first[i]! + second[i]!);
    sum[i + 1] = Math.fround(first[i + 1]! + second[i + 1]!);
    sum[i + 2] = Math.fround(first[i + 2]! + second[i + 2]!);
    sum[i + 3] = Math.fround(first[i + 3]! + second[i + 3]!);
  }
  for (; i < floats; i++) sum[i] = Math.fround(first[i]! + second[i]!);
}

/** sum[i] += next[i] for i < floats. */
export function addTo(sum: Float32Array, next: Float32Array, floats: number): void {
  const whole = floats & ~3;
  let i = 0;
  for (; i < whole; i += 4) {
    sum[i] = Math.fround(sum[i]! + next[i]!);
    sum[i + 1] = Math.fround(sum[i + 1]! + next[i + 1]!);
    sum[i + 2] = Math.fround(sum[i + 2]! + next[i + 2]!);
    sum[i + 3] = Math.fround(sum[i + 3]! + next[i + 3]!);
  }
  for (; i < floats; i++) sum[i] = Math.fround(sum[i]! + next[i]!);
}

/** How a collective adds: sumInRankOrder, or what makes the same bits of the same arguments faster (device-sum.ts). */
export type RankOrderSum = (
  sum: Float32Array,
  summands: readonly Float32Array[],
  floats: number,
  /** Both arrays stay where they are for good: what is made for them may be kept. Absent: no. */
  areLasting?: boolean,
) => void;

/** sum = the first `floats` of all summands, which are in rank order and at least one; none of them is `sum`. */
export function sumInRankOrder(sum: Float32Array, summands: readonly Float32Array[], floats: number): void {
  const first = summands[0]!;
  if (summands.length === 1) {
    sum.set(first.length === floats ? first : first.subarray(0, floats));
    return;
  }
  sumOfTwo(sum, first, summands[1]!, floats);
  for (let rank = 2; rank < summands.length; rank++) addTo(sum, summands[rank]!, floats);
}
