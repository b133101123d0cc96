/** Every eighth family of test/suites/families-degrees.suite.ts, others in each run; test/long has all. */
import { describe } from 'vitest';
import { testSeed } from '../../fixtures/seeded-random.js';
import { FAMILIES, familiesAtDegrees } from '../../suites/families-degrees.suite.js';

const SHARE = 8;

describe(`random sizes (TEST_SEED=${testSeed})`, () => {
  familiesAtDegrees(FAMILIES.filter((_, index) => index % SHARE === testSeed % SHARE));
});
