import { describe, expect, it } from 'vitest';
import { MASKED } from '../../../../shard-worker/sampler/keep-bits.js';
import { GumbelNoise } from '../../../../shard-worker/sampler/noise.js';
import {
  bestPerturbed,
  bestPosition,
  blockCount,
  scanBlocks,
  sumOfExponentials,
  TopCandidates,
} from '../../../../shard-worker/sampler/slice-scan.js';
import { seededRandom, testSeed } from '../../../fixtures/seeded-random.js';
import { randomLogits } from './choosing.js';

const BASE = 1000;

function scanned(logits: Float32Array): Float32Array {
  const blockMax = new Float32Array(blockCount(logits.length));
  scanBlocks(logits, logits.length, blockMax);
  return blockMax;
}

describe(`the passes over a slice (seed ${testSeed})`, () => {
  const random = seededRandom(testSeed);
  const slices = [0, 1, 2, 127, 128, 129, 1000, 40_000].map((count) => {
    const logits = randomLogits(random, Math.max(1, count)).subarray(0, count);
    // Equal and masked ones among them.
    for (let i = 0; i + 5 < count; i += 37) logits[i] = logits[i + 5]!;
    for (let i = 0; i < count; i += 11) logits[i] = MASKED;
    return logits;
  });

  for (const logits of slices) {
    const count = logits.length;
    const order = [...logits.keys()]
      .filter((at) => logits[at]! > MASKED)
      .sort((a, b) => logits[b]! - logits[a]! || a - b);

    it(`find the best of ${count}`, () => {
      expect(bestPosition(logits, count, scanned(logits))).toBe(order[0] ?? -1);
    });

    it(`find the first k of ${count}, in order`, () => {
      for (const k of [1, 2, 64, 256]) {
        const top = new TopCandidates(256);
        top.select(logits, count, BASE, scanned(logits), k, new TopCandidates(256));
        const expected = order.slice(0, k);
        expect([...top.ids.subarray(0, top.count)]).toEqual(expected.map((at) => BASE + at));
        expect([...top.logits.subarray(0, top.count)]).toEqual(expected.map((at) => logits[at]));
      }
    });

    it(`add up exponentials of ${count}`, () => {
      for (const temperature of [0.1, 1, 4]) {
        const max = order.length > 0 ? logits[order[0]!]! : 0;
        let expected = 0;
        for (const at of order) expected += Math.exp((logits[at]! - max) / temperature);
        const found = sumOfExponentials(logits, count, scanned(logits), max, temperature);
        expect(Math.abs(found - expected)).toBeLessThanOrEqual(1e-10 * expected);
      }
    });

    it(`find the best of ${count} under noise, as if each had been tried`, () => {
      const noise = new GumbelNoise();
      for (let position = 0; position < 20; position++) {
        noise.prepare(position, 1, 2);
        const temperature = 0.2 + position / 5;
        const found = { position: -1, score: 0 };
        const best = order[0] ?? -1;
        bestPerturbed(logits, count, BASE, scanned(logits), best, temperature, noise, found);
        let expected = -1;
        let score = Number.NEGATIVE_INFINITY;
        for (const at of order) {
          const tried = logits[at]! / temperature + noise.gumbel(BASE + at);
          if (tried > score) {
            expected = at;
            score = tried;
          }
        }
        expect(found).toEqual({ position: expected, score });
      }
    });
  }

  it('see a single NaN or infinity anywhere', () => {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      for (const at of [0, 1, 127, 128, 254]) {
        const logits = new Float32Array(255);
        const blockMax = new Float32Array(blockCount(255));
        expect(scanBlocks(logits, 255, blockMax)).toBe(true);
        logits[at] = value;
        expect(scanBlocks(logits, 255, blockMax)).toBe(false);
      }
    }
  });
});
