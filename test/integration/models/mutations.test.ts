/** A sample of test/suites/mutations.suite.ts, drawn anew in each run; test/long has all. */
import { describe, expect, it } from 'vitest';
import { seededRandom, testSeed } from '../../fixtures/seeded-random.js';
import { nameOf, outcomeOf, readMutations } from '../../suites/mutations.suite.js';

const SAMPLE = 30;

describe(`a key of config.json changed by itself (TEST_SEED=${testSeed})`, () => {
  const random = seededRandom(testSeed);
  const every = readMutations();
  const sample = Array.from({ length: SAMPLE }, () => random.pick(every));

  it.each(sample.map((mutation) => [nameOf(mutation), mutation] as const))(
    '%s is computed as by transformers, or refused',
    async (_, mutation) => {
      expect(await outcomeOf(mutation)).toMatch(/^(?:as transformers|refused: )/);
    },
  );
});
