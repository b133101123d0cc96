/** Contributions to a score: against values that are known exactly, and complete. */
import { describe, expect, it } from 'vitest';
import {
  inLanes,
  integratedGradients,
  type MaskedScore,
  occlusion,
  seeded,
  shapley,
} from '../../../../server/explanations/attribution.js';
import { seededRandom, testSeed } from '../../../fixtures/seeded-random.js';

/** By every order. */
async function exactShapley(count: number, score: MaskedScore): Promise<number[]> {
  const orders = (rest: number[]): number[][] =>
    rest.length === 0
      ? [[]]
      : rest.flatMap((one) => orders(rest.filter((other) => other !== one)).map((more) => [one, ...more]));
  const all = orders(Array.from({ length: count }, (_, at) => at));
  const sums = new Array<number>(count).fill(0);
  for (const order of all) {
    const kept = new Array<boolean>(count).fill(false);
    let before = await score(kept);
    for (const feature of order) {
      kept[feature] = true;
      const after = await score(kept);
      sums[feature]! += (after - before) / all.length;
      before = after;
    }
  }
  return sums;
}

const random = seededRandom(testSeed);
const weights = Array.from({ length: 5 }, () => random.normal());
const linear: MaskedScore = async (kept) => kept.reduce((sum, one, at) => sum + (one ? weights[at]! : 0), 1);
/** Two features count only together, one takes away from another. */
const tangled: MaskedScore = async (kept) =>
  (kept[0] && kept[1] ? 3 : 0) + (kept[2] ? 1 : 0) - (kept[2] && kept[3] ? 2 : 0) + (kept[4] ? 0.5 : 0);

describe(`contributions (TEST_SEED=${testSeed})`, () => {
  it('of a sum are its weights, whatever the method', async () => {
    for (const told of [
      await occlusion(5, linear),
      await shapley(5, linear, 3, seeded(1)),
      await integratedGradients(
        [1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0],
        async (x) => x.reduce((sum, one, at) => sum + one * weights[at]!, 1),
        3,
      ),
    ]) {
      told.contributions.forEach((one, at) => {
        expect(one).toBeCloseTo(weights[at]!, 9);
      });
      expect(told.base).toBe(1);
      expect(Math.abs(told.delta)).toBeLessThan(1e-9);
    }
  });

  it('by sampled orders come near to those of all orders, and are complete at any number of them', async () => {
    const exact = await exactShapley(5, tangled);
    expect(exact).toEqual([1.5, 1.5, 0, -1, 0.5].map((one) => expect.closeTo(one, 9)));
    for (const samples of [1, 2, 7, 64]) {
      const told = await shapley(5, tangled, samples, seeded(testSeed));
      expect(Math.abs(told.delta)).toBeLessThan(1e-9);
      expect(told.score - told.base).toBeCloseTo(2.5, 9);
    }
    const many = await shapley(5, tangled, 2000, seeded(3));
    many.contributions.forEach((one, at) => {
      expect(Math.abs(one - exact[at]!)).toBeLessThan(0.1);
    });
    expect(many.evaluations).toBeLessThanOrEqual(32);
  });

  it('with its reverse an order of pairs is exact', async () => {
    const told = await shapley(2, async ([a, b]) => (a && b ? 1 : 0), 2, seeded(testSeed));
    expect(told.contributions).toEqual([0.5, 0.5]);
  });

  it('by leaving out each tell what is lost, and how far that is from complete', async () => {
    const told = await occlusion(5, tangled);
    expect(told.contributions).toEqual([3, 3, -1, -2, 0.5]);
    expect(told.delta).toBeCloseTo(3.5 - 2.5, 9);
  });

  it('along a line are the integral of the gradient', async () => {
    const point = [0.5, -2, 3];
    const told = await integratedGradients(
      point,
      [0, 0, 0],
      async (x) => x.reduce((sum, one) => sum + one * one, 0),
      20,
    );
    told.contributions.forEach((one, at) => {
      expect(one).toBeCloseTo(point[at]! ** 2, 9);
    });
    const sigmoid = (x: readonly number[]): number => 1 / (1 + Math.exp(-(x[0]! * 2 - x[1]!)));
    const curved = await integratedGradients([1, 1], [0, 0], async (x) => sigmoid(x), 50);
    expect(Math.abs(curved.delta)).toBeLessThan(1e-4);
    expect(curved.contributions[0]! / curved.contributions[1]!).toBeCloseTo(-2, 3);
  });

  it('the same seed explains the same way, and what asks too often is refused', async () => {
    const once = await shapley(5, tangled, 3, seeded(9));
    expect((await shapley(5, tangled, 3, seeded(9))).contributions).toEqual(once.contributions);
    await expect(shapley(4000, linear, 16, seeded(1))).rejects.toThrow(
      /asks the model 63986 times, of at most 20000/,
    );
  });

  it('are asked for so many at a time, and not at all after a failure', async () => {
    let running = 0;
    let most = 0;
    let asked = 0;
    const call = async (index: number) => {
      asked += 1;
      running += 1;
      most = Math.max(most, running);
      await Promise.resolve();
      running -= 1;
      if (index === 30) throw new Error('no');
    };
    await expect(inLanes(Array(500).keys(), call)).rejects.toThrow('no');
    expect(most).toBe(16);
    expect(asked).toBeLessThan(60);
  });

  it('of thousands of features are made as they are asked for', async () => {
    let held = 0;
    let most = 0;
    const score: MaskedScore = async (kept) => {
      most = Math.max(most, ++held);
      await Promise.resolve();
      held -= 1;
      return kept.length;
    };
    const told = await shapley(4000, score, 4, seeded(1));
    expect([most, told.evaluations]).toEqual([16, 3999 * 4 + 2]);
  });
});
