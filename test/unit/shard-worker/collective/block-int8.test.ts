import { describe, expect, it } from 'vitest';
import {
  BLOCK_VALUES,
  decode,
  encode,
  encodedBytes,
  encodedView,
} from '../../../../shard-worker/collective/block-int8.js';

function thereAndBack(values: Float32Array): Float32Array {
  const view = encodedView(new ArrayBuffer(encodedBytes(values.length)), 0, values.length);
  encode(values, values.length, view);
  const back = new Float32Array(values.length);
  decode(view, back, values.length);
  return back;
}

describe('blocks of 8-bit numbers', () => {
  it('keep zeros, the largest magnitude of a block, and its multiples', () => {
    const values = new Float32Array(BLOCK_VALUES + 3);
    values.set([127, -127, 1, -64], 0);
    values.set([0.5, -0.25, 0], BLOCK_VALUES);
    const back = thereAndBack(values);
    expect([...back.subarray(0, 5)]).toEqual([127, -127, 1, -64, 0]);
    expect(back[BLOCK_VALUES]).toBeCloseTo(0.5, 6);
    expect(Math.abs(back[BLOCK_VALUES + 1]! + 0.25)).toBeLessThanOrEqual(0.5 / 254);
  });

  it('give a block of its own to the outlier', () => {
    const values = Float32Array.from({ length: 2 * BLOCK_VALUES }, () => 0.01);
    values[0] = 1000;
    const back = thereAndBack(values);
    expect(back[1]).toBe(0);
    expect(back[BLOCK_VALUES]).toBeCloseTo(0.01, 6);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])('show %d in a sum', (value) => {
    const values = new Float32Array(2 * BLOCK_VALUES).fill(1);
    values[3] = value;
    const back = thereAndBack(values);
    expect(Number.isFinite(back[3])).toBe(false);
    expect(back[BLOCK_VALUES]).toBeCloseTo(1, 6);
  });

  it('take a little over a quarter of the bytes', () => {
    expect(encodedBytes(2048)).toBe(2048 + 32 * 4);
    expect(encodedBytes(1)).toBe(8);
  });
});
