/**
 * float16 and bfloat16 to float32, exactly: every subnormal, infinity and NaN (its payload too) keeps its value.
 *
 * In      16-bit patterns as they stand in a file, little-endian like the machine (x64, arm64)
 * Out     float32 bit patterns
 * Speed   runs over every weight of a checkpoint: integer moves only, and a table for float16
 * Source  IEEE 754 binary16; bfloat16 is the upper half of a binary32
 */
import assert from 'node:assert/strict';
import type { Halves } from './tensor-source.js';

let float16Table: Uint32Array | undefined;
let float16Floats: Float32Array | undefined;

/** float32 bits of one float16. @param half its 16 bits */
function float16ToFloat32Bits(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >>> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  if (exponent === 0x1f) return (sign | 0x7f800000 | (mantissa << 13)) >>> 0;
  if (exponent !== 0) return (sign | ((exponent + 112) << 23) | (mantissa << 13)) >>> 0;
  if (mantissa === 0) return sign >>> 0;
  // Subnormal: value is mantissa · 2^-24; shift its leading one into the hidden place.
  const shift = Math.clz32(mantissa) - 21;
  return (sign | ((113 - shift) << 23) | (((mantissa << shift) & 0x3ff) << 13)) >>> 0;
}

/** All 65536 results (256 KiB, made once in about a millisecond): a lookup beats the branches. */
function table(): Uint32Array {
  float16Table ??= Uint32Array.from({ length: 65_536 }, (_, half) => float16ToFloat32Bits(half));
  return float16Table;
}

/** The value of each of the 65536 float16s. */
export function float16Values(): Float32Array {
  float16Floats ??= new Float32Array(table().buffer);
  return float16Floats;
}

/**
 * @param halves [n] float16 bits
 * @param into [n] float32 bits
 */
export function widenFloat16(halves: Uint16Array, into: Uint32Array): void {
  assert(into.length === halves.length, `${halves.length} halves into ${into.length} floats`);
  const bits = table();
  for (let index = 0; index < halves.length; index++) into[index] = bits[halves[index]!]!;
}

/**
 * @param halves [n] bfloat16 bits
 * @param into [n] float32 bits
 */
export function widenBfloat16(halves: Uint16Array, into: Uint32Array): void {
  assert(into.length === halves.length, `${halves.length} halves into ${into.length} floats`);
  for (let index = 0; index < halves.length; index++) into[index] = halves[index]! << 16;
}

/** @returns float32 of float16 or bfloat16 bits */
export function widened(halves: Uint16Array, isBfloat: boolean): Float32Array {
  const values = new Float32Array(halves.length);
  const into = new Uint32Array(values.buffer);
  if (isBfloat) widenBfloat16(halves, into);
  else widenFloat16(halves, into);
  return values;
}

/** Numbers [from, to), as floats. */
export function floatsOf(numbers: Float32Array | Halves, from: number, to: number): Float32Array {
  if (numbers instanceof Float32Array) return numbers.subarray(from, to);
  return widened(numbers.values.subarray(from, to), numbers.type === 'bfloat16');
}
