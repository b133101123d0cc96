/**
 * Sums over ranks, as a tree of neighbours, in float32: (r0 + r1) + (r2 + r3) of four, (r0 + r1) + r2 of three. Every rank gets the
 * same bits, and a group of half as many ranks, each of which adds two such summands itself, gets them too
 * (partitioner/plan/sum-pieces.ts; graph/add-as-tree.ts adds likewise).
 *
 * Free functions on typed arrays, the cases of two and four ranks apart: they are the only loop of a collective over all of its
 * data (2048 values at a decode of one token, 1 M at a prefill chunk of 512), and stay monomorphic this way.
 * `Math.fround` keeps every partial result in float32; the compiler then adds in float32 throughout.
 */

/** How a collective adds: sumAsTree, or what makes the same bits of the same arguments faster (device-sum.ts). */
export type SumOverRanks = (
  sum: Float32Array,
  summands: readonly Float32Array[],
  floats: number,
  /** Both arrays stay where they are for good: what is made for them may be kept. Absent: no. */
  areLasting?: boolean,
) => void;

/** Values of a sum of more than four that are added before the next ones: their parts stay in the cache. */
const CHUNK_FLOATS = 2048;

/** sum = the first `floats` of all summands, which are in rank order and at least one; none of them is `sum`. */
export function sumAsTree(sum: Float32Array, summands: readonly Float32Array[], floats: number): void {
  const first = summands[0]!;
  const second = summands[1];
  const third = summands[2];
  const fourth = summands[3];
  if (second === undefined) sum.set(first.length === floats ? first : first.subarray(0, floats));
  else if (third === undefined) sumOfTwo(sum, first, second, floats);
  else if (fourth === undefined) {
    sumOfTwo(sum, first, second, floats);
    sumOfTwo(sum, sum, third, floats);
  } else if (summands.length === 4) sumOfFour(sum, first, second, third, fourth, floats);
  else sumOfMany(sum, summands, floats);
}

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

/** sum[i] = (first[i] + second[i]) + (third[i] + fourth[i]) for i < floats. */
function sumOfFour(
  sum: Float32Array,
  first: Float32Array,
  second: Float32Array,
  third: Float32Array,
  fourth: Float32Array,
  floats: number,
): void {
  for (let i = 0; i < floats; i++) {
    const left = Math.fround(first[i]! + second[i]!);
    const right = Math.fround(third[i]! + fourth[i]!);
    sum[i] = Math.fround(left + right);
  }
}

/** A chunk at a time, level by level. */
function sumOfMany(sum: Float32Array, summands: readonly Float32Array[], floats: number): void {
  const sums = summands.map(() => new Float32Array(Math.min(CHUNK_FLOATS, floats)));
  for (let start = 0; start < floats; start += CHUNK_FLOATS) {
    const count = Math.min(CHUNK_FLOATS, floats - start);
    let level = summands.map((summand) => summand.subarray(start, start + count));
    while (level.length > 1) {
      level = level.flatMap((value, index) => {
        if (index % 2 === 1) return [];
        const next = level[index + 1];
        if (next === undefined) return [value];
        // Only the value of the level below that was here before counts: it is read as it is replaced.
        const into = sums[index / 2]!;
        sumOfTwo(into, value, next, count);
        return [into];
      });
    }
    sum.set(level[0]!.length === count ? level[0]! : level[0]!.subarray(0, count), start);
  }
}
