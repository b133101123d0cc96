import { describe, expect, it } from 'vitest';
import { sumAsTree, sumOfTwo } from '../../../../shard-worker/collective/tree-sum.js';

// 2^24 + 1 is no float32: the order of additions shows.
const LARGE = 2 ** 24;

describe('the sum over ranks', () => {
  it('rounds to float32 after each addition, neighbours first', () => {
    const sum = new Float32Array(1);
    const of = (...values: number[]): number => {
      sumAsTree(
        sum,
        values.map((value) => Float32Array.of(value)),
        1,
      );
      return sum[0]!;
    };
    expect(of(LARGE, 1, 1)).toBe(LARGE);
    expect(of(1, 1, LARGE)).toBe(LARGE + 2);
    expect(of(LARGE, 1, -LARGE, 1)).toBe(1);
    expect(of(LARGE, -LARGE, 1, LARGE)).toBe(LARGE);
    // (1 + 1) + (LARGE + 1) is LARGE + 2; from the first to the last it would be LARGE + 4.
    expect(of(1, 1, LARGE, 1)).toBe(LARGE + 2);
    expect(of(1, 1, LARGE, 1, -LARGE)).toBe(2);
    expect(of(1, 1, LARGE, 1, 1, -LARGE)).toBe(3);
    expect(of(7)).toBe(7);
  });

  it('covers the first `floats` values and no more, for any length', () => {
    for (const floats of [0, 1, 2, 3, 4, 5, 11, 2048, 2049, 5000]) {
      const length = floats + 3;
      const ranks = Array.from({ length: 9 }, (_, rank) => new Float32Array(length).fill(2 ** rank));
      for (const count of [1, 2, 3, 4, 5, 8, 9]) {
        const sum = new Float32Array(length).fill(-1);
        sumAsTree(sum, ranks.slice(0, count), floats);
        const expected = new Float32Array(length).fill(-1).fill(2 ** count - 1, 0, floats);
        expect(sum).toEqual(expected);
      }
    }
  });

  it('may add into one of the first two summands', () => {
    const first = Float32Array.of(1, 2, 3, 4, 5);
    sumOfTwo(first, first, Float32Array.of(1, 1, 1, 1, 1), 5);
    expect([...first]).toEqual([2, 3, 4, 5, 6]);
  });
});
