/** Every case of test/suites/schedules.suite.ts. */
import { describe } from 'vitest';
import { testSeed } from '../fixtures/seeded-random.js';
import { SCHEDULE_CASES, schedulesOf } from '../suites/schedules.suite.js';

describe(`random schedules (TEST_SEED=${testSeed})`, () => {
  schedulesOf(SCHEDULE_CASES, 4);
});
