/** partitioner/checkpoint/float-widening.ts: every 16-bit pattern against arithmetic done another way. */
import { describe, expect, it } from 'vitest';
import { widenBfloat16, widenFloat16 } from '../../../../partitioner/checkpoint/float-widening.js';

const ALL = Uint16Array.from({ length: 65_536 }, (_, pattern) => pattern);

/** The value by its definition, in double arithmetic. */
function definedValue(pattern: number, exponentBits: number, mantissaBits: number): number {
  const sign = pattern & 0x8000 ? -1 : 1;
  const exponent = (pattern >> mantissaBits) & (2 ** exponentBits - 1);
  const fraction = (pattern & (2 ** mantissaBits - 1)) / 2 ** mantissaBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  if (exponent === 2 ** exponentBits - 1)
    return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** (1 - bias) : sign * (1 + fraction) * 2 ** (exponent - bias);
}

function firstDifference(values: Float32Array, exponentBits: number, mantissaBits: number): string | null {
  for (const pattern of ALL) {
    const expected = definedValue(pattern, exponentBits, mantissaBits);
    const actual = values[pattern]!;
    if (!Object.is(expected, actual)) return `0x${pattern.toString(16)}: ${actual}, expected ${expected}`;
  }
  return null;
}

describe('widening to float32', () => {
  it('gives every float16 its exact value: zeros of both signs, subnormals, infinities, NaN', () => {
    const values = new Float32Array(65_536);
    widenFloat16(ALL, new Uint32Array(values.buffer));
    expect(firstDifference(values, 5, 10)).toBeNull();
  });

  it('gives every bfloat16 its exact value', () => {
    const values = new Float32Array(65_536);
    widenBfloat16(ALL, new Uint32Array(values.buffer));
    expect(firstDifference(values, 8, 7)).toBeNull();
  });

  it('keeps the payload of a NaN', () => {
    const bits = new Uint32Array(2);
    widenFloat16(Uint16Array.of(0x7e01, 0xfd55), bits);
    expect([...bits]).toEqual([0x7fc02000, 0xffaaa000]);
  });

  it('refuses a destination of another length', () => {
    expect(() => widenFloat16(new Uint16Array(2), new Uint32Array(3))).toThrow('2 halves into 3');
  });
});
