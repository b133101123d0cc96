import { describe, expect, it } from 'vitest';
import { dequantiseRows, quantiseRows } from '../../../../partitioner/quantise/block-quantise.js';
import { chosen, searchWeighted } from '../../../../partitioner/quantise/weighted-search.js';
import { seededRandom } from '../../../fixtures/seeded-random.js';

const FORMAT = { bits: 4, blockSize: 32, symmetric: false, search: true, half: true } as const;

function block(seed: number): Float32Array {
  const random = seededRandom(seed);
  return Float32Array.from({ length: 32 }, () => random.normal() + 0.3);
}

/** Σ importance · error² of a block as it is stored. */
function error(weights: Float32Array, by: Float32Array | null, counted: Float32Array): number {
  const rows = quantiseRows(weights, 1, 32, FORMAT, 'weights', 0, by);
  const seen = dequantiseRows(rows, 1, 32, FORMAT);
  return seen.reduce((sum, value, index) => sum + counted[index]! * (value - weights[index]!) ** 2, 0);
}

describe('a weighted search', () => {
  it('finds a grid that does not go through 0 at a whole code', () => {
    const weights = Float32Array.from({ length: 32 }, (_, index) => 0.25 * ((index % 16) + 4.375));
    searchWeighted(weights, 0, 32, null, 0);
    expect([...chosen]).toEqual([0.25, -4.375]);
    expect(error(weights, null, new Float32Array(32).fill(1))).toBe(0);
  });

  it('keeps one value, and nothing but zeros, as they are', () => {
    for (const value of [0.5, -3, 0]) {
      const weights = new Float32Array(32).fill(value);
      expect(error(weights, null, new Float32Array(32).fill(1))).toBe(0);
    }
  });

  it('makes the error smaller where it counts', () => {
    let better = 0;
    for (let seed = 1; seed <= 20; seed++) {
      const counted = Float32Array.from({ length: 32 }, (_, index) => (index % 8 === 0 ? 100 : 1));
      const weights = block(seed);
      if (error(weights, counted, counted) < error(weights, null, counted)) better++;
    }
    expect(better).toBeGreaterThanOrEqual(18);
  });

  it('takes importances of which none counts as none at all', () => {
    const weights = block(5);
    searchWeighted(weights, 0, 32, null, 0);
    const plain = [...chosen];
    searchWeighted(weights, 0, 32, new Float32Array(32), 0);
    expect([...chosen]).toEqual(plain);
  });
});
