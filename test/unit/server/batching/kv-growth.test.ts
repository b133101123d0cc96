/** Who grows and who gives way when KV memory runs out. */
import { describe, expect, it } from 'vitest';
import { type KvHolder, planGrowth } from '../../../../server/batching/kv-growth.js';
import { seededRandom, testSeed } from '../../../fixtures/seeded-random.js';

const holder = (kvTokens: number, neededKvTokens = 0): KvHolder => ({ kvTokens, neededKvTokens });

describe('the growth of KV memory', () => {
  it('gives a page to who needs one', () => {
    const holders = [holder(64, 128), holder(128, 128), holder(64, 128)];
    expect(planGrowth(holders, 128)).toEqual({ grow: [0, 2], preempt: [] });
  });

  it('preempts the youngest, as many as it takes, whatever they do', () => {
    expect(planGrowth([holder(64, 128), holder(64), holder(64)], 0)).toEqual({ grow: [0], preempt: [2] });
    const full = [holder(64, 128), holder(64, 128), holder(64, 128), holder(64, 128)];
    expect(planGrowth(full, 0)).toEqual({ grow: [0, 1], preempt: [3, 2] });
  });

  it('lets the youngest give up its own where nobody is younger', () => {
    expect(planGrowth([holder(128), holder(64, 128)], 0)).toEqual({ grow: [], preempt: [1] });
  });

  it('never preempts the oldest of several, and never promises what is not there', () => {
    const random = seededRandom(testSeed);
    for (let round = 0; round < 2000; round++) {
      const holders = Array.from({ length: random.integer(2, 8) }, () => {
        const kvTokens = 64 * random.integer(1, 4);
        return holder(kvTokens, random.next() < 0.6 ? kvTokens + 64 : 0);
      });
      const free = 64 * random.integer(0, 3);
      const { grow, preempt } = planGrowth(holders, free);
      const back = preempt.reduce((sum, index) => sum + holders[index]!.kvTokens, free);
      expect(grow.length * 64).toBeLessThanOrEqual(back);
      expect(preempt).not.toContain(0);
      expect(preempt).toEqual(preempt.map((_, at) => holders.length - 1 - at));
      holders.forEach(({ kvTokens, neededKvTokens }, index) => {
        const gets = grow.includes(index) || preempt.includes(index);
        expect(gets || neededKvTokens <= kvTokens).toBe(true);
      });
    }
  });
});
