/** Seeds of the simulated pool: no invariant breaks, and bugs on purpose are found. All else: `npm run simulate`. */
import { expect, it } from 'vitest';
import { testSeed } from '../../fixtures/seeded-random.js';
import { PLANTS, plant } from '../../simulation/planted-bugs.js';
import { simulate } from '../../simulation/simulate.js';

const SEEDS = 60;
const MOST_SEEDS = 1000;

it(`seeds from ${testSeed} on: every request ends once, with its own tokens or for a cause; nothing is left`, async () => {
  const failed: unknown[] = [];
  let resumed = 0;
  for (let seed = testSeed; seed < testSeed + SEEDS; seed++) {
    const outcome = await simulate(seed);
    resumed += outcome.resumed;
    if (outcome.violations.length > 0)
      failed.push([`npm run simulate -- --first ${seed} --seeds 1`, ...outcome.violations]);
  }
  expect(failed).toEqual([]);
  expect(resumed).toBeGreaterThan(10);
}, 120_000);

it('the same seed is the same life', async () => {
  expect(await simulate(17)).toEqual(await simulate(17));
});

it.each(Object.keys(PLANTS))(
  'a bug on purpose is found within a thousand seeds: %s',
  async (name) => {
    const takeOut = plant(name);
    try {
      let violations: string[] = [];
      for (let seed = 1; seed <= MOST_SEEDS && violations.length === 0; seed++)
        ({ violations } = await simulate(seed));
      expect(violations).not.toEqual([]);
    } finally {
      takeOut();
    }
  },
  120_000,
);
