/**
 * Scale and zero point of one block of 4-bit weights, both float16, by the squared error that its inputs make of it.
 *
 * In      a block of float32 weights; how much each column's error counts: the mean square of that input (calibration/), 0 where
 *         the column is padding, or null: all alike
 * Out     `chosen[0]` scale, `chosen[1]` zero point in units of codes, any number, not only a code: w = (q − zero) · scale, q 0 … 15
 * How     candidates are ranges a little wider or narrower than the block's. For the codes that one gives, scale and zero point are fitted
 *         by weighted least squares (a straight line through points), twice, since other scales give other codes; the least error wins
 * Limits  float16 holds the zero point to 2^-11 of itself: a block far from 0 and narrow loses some
 * Source  README "Decisions", 2026-11-30: what was measured on a real model. Least squares over codes as in llama.cpp's Q4_K
 */
import { roundToHalf } from './half.js';

const LEVELS = 15;
/** The range is divided by LEVELS + offset. */
const OFFSETS = [-0.8, 0, 0.8, 1.6, 2.6] as const;
const FITS = 2;

/** [scale, zero point] of the last search; scale 0: nothing but zeros, or less than float16 holds; infinity: more than it holds. */
export const chosen = new Float64Array(2);

/**
 * @param start index of the block's first weight; `end` behind its last
 * @param importance of the row's columns, the first of which is at `rowStart`
 */
export function searchWeighted(
  weights: Float32Array,
  start: number,
  end: number,
  importance: Float32Array | null,
  rowStart: number,
): void {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (let index = start; index < end; index++) {
    if (importance !== null && !(importance[index - rowStart]! > 0)) continue;
    const weight = weights[index]!;
    if (weight < low) low = weight;
    if (weight > high) high = weight;
  }
  // None counts: all do.
  if (low > high) {
    searchWeighted(weights, start, end, null, rowStart);
    return;
  }
  const shares = importance;
  chosen[0] = 0;
  chosen[1] = 0;
  if (low === high) {
    // Code 1 is the value itself.
    chosen[0] = roundToHalf(low);
    return;
  }
  let least = Number.POSITIVE_INFINITY;
  let isTooLarge = false;
  for (const offset of OFFSETS) {
    let scale = (high - low) / (LEVELS + offset);
    let inverse = 1 / scale;
    let zero = LEVELS / 2 - ((high + low) / 2) * inverse;
    for (let fit = 0; fit < FITS; fit++) {
      let [sum, codes, values, squares, products] = [0, 0, 0, 0, 0];
      const half = zero + 0.5;
      for (let index = start; index < end; index++) {
        const weight = weights[index]!;
        const share = shares === null ? 1 : shares[index - rowStart]!;
        const code = nearest(weight * inverse + half);
        sum += share;
        codes += share * code;
        values += share * weight;
        squares += share * code * code;
        products += share * code * weight;
      }
      const whole = 1 / sum;
      const mean = codes * whole;
      const spread = squares - mean * codes;
      const slope = (products - mean * values) / spread;
      // One code for all that counts: there is no line through one point.
      if (spread > 1e-9 * squares && slope > 0) scale = slope;
      scale = roundToHalf(scale);
      if (scale === 0) break;
      inverse = 1 / scale;
      zero = roundToHalf(mean - values * whole * inverse);
    }
    if (scale === Number.POSITIVE_INFINITY) isTooLarge = true;
    if (scale === 0 || !Number.isFinite(zero)) continue;
    const half = zero + 0.5;
    let error = 0;
    for (let index = start; index < end; index++) {
      const weight = weights[index]!;
      const off = weight - (nearest(weight * inverse + half) - zero) * scale;
      error += off * off * (shares === null ? 1 : shares[index - rowStart]!);
    }
    if (error < least) {
      least = error;
      chosen[0] = scale;
      chosen[1] = zero;
    }
  }
  if (isTooLarge && least === Number.POSITIVE_INFINITY) chosen[0] = Number.POSITIVE_INFINITY;
}

/** The nearest code that exists. @param level and a half */
function nearest(level: number): number {
  const code = Math.floor(level);
  return code < 0 ? 0 : code > LEVELS ? LEVELS : code;
}
