/**
 * float32 to the nearest float16 or bfloat16, ties to even.
 *
 * In      a number; or float32 values
 * Out     16 bits; or the value that they stand for
 * Limits  beyond the largest float16 (65,504) the result is infinity, below 2^-25 zero: the caller asks what that means
 * Source  IEEE 754 binary16; checkpoint/float-widening.ts goes the other way
 */
import { widenBfloat16, widenFloat16 } from '../checkpoint/float-widening.js';

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);
const half = new Uint16Array(1);

/** Bits of the nearest float16. */
export function halfBits(value: number): number {
  float[0] = value;
  const word = bits[0]!;
  const sign = (word >>> 16) & 0x8000;
  const magnitude = word & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  // 65,520 and more round to infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal: in units of 2^-24. Adding 0.5 in float32 rounds to such a unit, since 0.5 has its last bit there.
    float[0] = magnitude === 0 ? 0 : Math.abs(value);
    float[0] = Math.fround(float[0]! + 0.5);
    return sign | (bits[0]! - 0x3f000000);
  }
  const odd = (magnitude >>> 13) & 1;
  return sign | ((magnitude - 0x38000000 + 0xfff + odd) >>> 13);
}

/** The nearest float16, as a number. */
export function roundToHalf(value: number): number {
  half[0] = halfBits(value);
  widenFloat16(half, bits);
  return float[0]!;
}

/** Bits of the nearest bfloat16. */
export function bfloatBits(value: number): number {
  float[0] = value;
  const word = bits[0]!;
  if ((word & 0x7fffffff) > 0x7f800000) return (word >>> 16) | 0x40;
  return (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
}

/** The nearest bfloat16, as a number. */
export function roundToBfloat(value: number): number {
  half[0] = bfloatBits(value);
  widenBfloat16(half, bits);
  return float[0]!;
}
