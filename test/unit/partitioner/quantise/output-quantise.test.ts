/** partitioner/quantise/output-quantise.ts: layout, error bound, pieces of rows. */
import { describe, expect, it } from 'vitest';
import { OutputQuantiser } from '../../../../partitioner/quantise/output-quantise.js';
import { seededRandom, testSeed } from '../../../fixtures/seeded-random.js';

describe('weights with a scale an output', () => {
  it('lie by inputs, the largest of an output as 127, the others as the nearest', () => {
    const quantiser = new OutputQuantiser(3, 2);
    // Scales 2, 1 and none.
    quantiser.add(Float32Array.from([254, -2, -127, 0.6, 0, 0]), 3, 2, 0);
    expect([...quantiser.scales]).toEqual([2, 1, 0]);
    expect([...quantiser.codes]).toEqual([127, -127, 0, -1, 1, 0]);
  });

  it('are within half a scale, in rows and columns of any number, added in pieces as at once', () => {
    const random = seededRandom(testSeed);
    for (const [rows, columns] of [
      [1, 1],
      [64, 64],
      [65, 130],
      [200, 63],
    ] as const) {
      const magnitude = 10 ** random.integer(-30, 20);
      const weights = Float32Array.from({ length: rows * columns }, () => random.normal() * magnitude);
      // Columns that a rank has no weights for stay zero.
      const [whole, pieces] = [0, 0].map(() => new OutputQuantiser(rows + 5, columns + 2));
      whole!.add(weights, rows, columns, 5);
      const cut = random.integer(0, rows);
      pieces!.add(weights.subarray(0, cut * columns), cut, columns, 5);
      pieces!.add(weights.subarray(cut * columns), rows - cut, columns, 5 + cut);
      expect(pieces!.codes).toEqual(whole!.codes);
      expect(pieces!.scales).toEqual(whole!.scales);
      for (let row = 0; row < rows; row++) {
        const scale = whole!.scales[5 + row]!;
        for (let column = 0; column < columns; column++) {
          const code = whole!.codes[column * (rows + 5) + 5 + row]!;
          const error = Math.abs(weights[row * columns + column]! - code * scale);
          expect(error).toBeLessThanOrEqual(scale * 0.50001);
        }
      }
      expect(whole!.codes.subarray(columns * (rows + 5)).every((code) => code === 0)).toBe(true);
    }
  });
});
