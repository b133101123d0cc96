/** Every family of test/suites/families-degrees.suite.ts. */
import { describe } from 'vitest';
import { testSeed } from '../fixtures/seeded-random.js';
import { FAMILIES, familiesAtDegrees } from '../suites/families-degrees.suite.js';

describe(`random sizes (TEST_SEED=${testSeed})`, () => {
  familiesAtDegrees(FAMILIES);
});
