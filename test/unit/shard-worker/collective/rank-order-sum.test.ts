import { describe, expect, it } from 'vitest';
import { addTo, sumInRankOrder, sumOfTwo } from '../../../../shard-worker/collective/rank-order-sum.js';

// 2^24 + 1 is no float32: the order of additions shows.
const LARGE = 2 ** 24;

describe('the sum over ranks', () => {
  it('rounds to float32 after each rank, in rank order', () => {
    const sum = new Float32Array(1);
    const of = (...values: number[]): number => {
      sumInRankOrder(
        sum,
        values.map((value) => Float32Array.of(value)),
        1,
      );
      return sum[0]!;
    };
    expect(of(LARGE, 1, 1)).toBe(LARGE);
    expect(of(1, 1, LARGE)).toBe(LARGE + 2);
    expect(of(LARGE, 1, -LARGE, 1)).toBe(1);
    expect(of(7)).toBe(7);
  });

  it('covers the first `floats` values and no more, for any length', () => {
    for (let floats = 0; floats < 11; floats++) {
      const ranks = [1, 10, 100].map((value) => new Float32Array(12).fill(value));
      for (const count of [1, 2, 3]) {
        const sum = new Float32Array(12).fill(-1);
        sumInRankOrder(sum, ranks.slice(0, count), floats);
        const expected = [1, 11, 111][count - 1]!;
        expect([...sum]).toEqual(Array.from({ length: 12 }, (_, i) => (i < floats ? expected : -1)));
      }
    }
  });

  it('may add into one of the first two summands', () => {
    const first = Float32Array.of(1, 2, 3, 4, 5);
    sumOfTwo(first, first, Float32Array.of(1, 1, 1, 1, 1), 5);
    addTo(first, Float32Array.of(1, 1, 1, 1, 1), 5);
    expect([...first]).toEqual([3, 4, 5, 6, 7]);
  });
});
