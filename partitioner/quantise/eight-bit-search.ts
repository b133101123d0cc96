/**
 * Scale of one block of 8-bit weights without zero points, a float16, by the squared error that its inputs make of it.
 *
 * In      a block of float32 weights; how much each column's error counts: the mean square of that input (calibration/), 0 where
 *         the column is padding, or null: all alike
 * Out     the scale; the largest weight over 128 where none is better: as without a search
 * How     scales a little wider than that. A step more or less makes no difference to the mean of errors, but a few inputs are a thousand times
 *         the others, and among several scales there is one whose codes are near their weights
 * Source  README "Decisions", 2026-11-30
 */
import { roundToHalf } from './half.js';

const CANDIDATES = 16;
/** A power of two, so that every way to compute it gives the same. */
const WIDER = 1 / 128;
const MIDDLE = 128;
const MOST = 255;

/**
 * @param start index of the block's first weight; `end` behind its last
 * @param largest weight of the largest magnitude
 * @param importance of the row's columns, the first of which is at `rowStart`
 */
export function searchEightBits(
  weights: Float32Array,
  start: number,
  end: number,
  largest: number,
  importance: Float32Array | null,
  rowStart: number,
): number {
  let shares = importance;
  if (shares !== null && !shares.subarray(start - rowStart, end - rowStart).some((share) => share > 0)) {
    shares = null;
  }
  const plain = -largest / MIDDLE;
  let best = roundToHalf(plain);
  let least = Number.POSITIVE_INFINITY;
  for (let candidate = 0; candidate < CANDIDATES; candidate++) {
    const scale = roundToHalf(plain * (1 + candidate * WIDER));
    if (scale === 0) continue;
    const inverse = 1 / scale;
    let error = 0;
    for (let index = start; index < end; index++) {
      const weight = weights[index]!;
      const level = weight * inverse + (MIDDLE + 0.5);
      const code = level > 0 ? (level < MOST ? Math.floor(level) : MOST) : 0;
      const off = weight - (code - MIDDLE) * scale;
      error += off * off * (shares === null ? 1 : shares[index - rowStart]!);
    }
    if (error < least) {
      least = error;
      best = scale;
    }
  }
  return best;
}
