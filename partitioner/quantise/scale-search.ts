/**
 * The scale (and zero point) of one block of weights at 4 bits: the best of a few, by squared error.
 *
 * In      a block of float32 weights, none of them NaN or infinite; its value of largest magnitude, or its two ends
 * Out     `found[0]` scale and `found[1]` zero point (0 … 15), for w = (q − zero) · scale
 * How     candidates shrink or stretch the plain scale (README "Decisions"): a range that ends within the block's largest value clips
 *         few weights and divides all others more finely. For the levels q that a candidate gives, the scale of least squared
 *         error is Σ w·l / Σ l² with l = q − zero, and it takes (Σ w·l)² / Σ l² off Σ w²: the candidate that takes most is the
 *         best, and no error need be computed. All four in one pass over the block: sums in registers, nothing allocated.
 * Limits  4 bits; what is searched at 8 is in eight-bit-search.ts
 * Source  least squares as in llama.cpp's make_qx_quants; candidates of our own, measured (README)
 */

const LEVELS = 15;
/** Levels below and above zero in the symmetric case: −8 … 7. */
const HALF = 8;

/** Scale 1 / (HALF + offset) of the largest magnitude. Offset 0 maps it to the lowest level. */
const SYMMETRIC_OFFSETS = [-0.7, 0, 0.7, 1.4] as const;
/** Scale 1 / (LEVELS + offset) of the range. */
const ASYMMETRIC_OFFSETS = [-0.6, 0.3, 1.2, 2.1] as const;

/** [scale, zero point] of the last search. */
export const found = new Float64Array(2);

/** @param largest value of largest magnitude of the block, not 0 */
export function searchSymmetric(weights: Float32Array, start: number, end: number, largest: number): void {
  const [a, b, c, d] = SYMMETRIC_OFFSETS;
  const unit = -1 / largest;
  bestOfFour(
    weights,
    start,
    end,
    (HALF + a) * unit,
    (HALF + b) * unit,
    (HALF + c) * unit,
    (HALF + d) * unit,
    HALF,
    HALF,
    HALF,
    HALF,
  );
}

/** @param low smallest value, at most 0. @param high largest, at least 0; one of them is not 0 */
export function searchAsymmetric(
  weights: Float32Array,
  start: number,
  end: number,
  low: number,
  high: number,
): void {
  const [a, b, c, d] = ASYMMETRIC_OFFSETS;
  const unit = 1 / (high - low);
  // A range that is cut is cut at both ends alike: its middle stays where it is.
  const middle = (high + low) / 2;
  const zero = (inverse: number): number => zeroPoint(LEVELS / 2 - middle * inverse);
  bestOfFour(
    weights,
    start,
    end,
    (LEVELS + a) * unit,
    (LEVELS + b) * unit,
    (LEVELS + c) * unit,
    (LEVELS + d) * unit,
    zero((LEVELS + a) * unit),
    zero((LEVELS + b) * unit),
    zero((LEVELS + c) * unit),
    zero((LEVELS + d) * unit),
  );
}

/** The nearest level that exists. */
function zeroPoint(level: number): number {
  return Math.max(0, Math.min(LEVELS, Math.round(level)));
}

/** @param i0 inverse of candidate 0's scale. @param z0 its zero point */
function bestOfFour(
  weights: Float32Array,
  start: number,
  end: number,
  i0: number,
  i1: number,
  i2: number,
  i3: number,
  z0: number,
  z1: number,
  z2: number,
  z3: number,
): void {
  let [a0, a1, a2, a3] = [0, 0, 0, 0]; // Σ w·l
  let [b0, b1, b2, b3] = [0, 0, 0, 0]; // Σ l², at most 256 · 15²
  const [c0, c1, c2, c3] = [z0 + 0.5, z1 + 0.5, z2 + 0.5, z3 + 0.5];
  for (let index = start; index < end; index++) {
    const weight = weights[index]!;
    let level = (weight * i0 + c0) | 0;
    level = (level < 0 ? 0 : level > LEVELS ? LEVELS : level) - z0;
    a0 += weight * level;
    b0 = (b0 + Math.imul(level, level)) | 0;
    level = (weight * i1 + c1) | 0;
    level = (level < 0 ? 0 : level > LEVELS ? LEVELS : level) - z1;
    a1 += weight * level;
    b1 = (b1 + Math.imul(level, level)) | 0;
    level = (weight * i2 + c2) | 0;
    level = (level < 0 ? 0 : level > LEVELS ? LEVELS : level) - z2;
    a2 += weight * level;
    b2 = (b2 + Math.imul(level, level)) | 0;
    level = (weight * i3 + c3) | 0;
    level = (level < 0 ? 0 : level > LEVELS ? LEVELS : level) - z3;
    a3 += weight * level;
    b3 = (b3 + Math.imul(level, level)) | 0;
  }
  // A block of ends that meet may leave a candidate without any level but its zero: 0 / 0 is never the best.
  found[0] = 0;
  found[1] = z0;
  let most = 0;
  if (a0 * (a0 / b0) > most) most = take(a0, b0, z0);
  if (a1 * (a1 / b1) > most) most = take(a1, b1, z1);
  if (a2 * (a2 / b2) > most) most = take(a2, b2, z2);
  if (a3 * (a3 / b3) > most) most = take(a3, b3, z3);
}

/** @returns what the candidate takes off Σ w² */
function take(a: number, b: number, zero: number): number {
  found[0] = a / b;
  found[1] = zero;
  return a * (a / b);
}
