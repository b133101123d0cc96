/** A case of test/suites/schedules.suite.ts, another in each run: test/long has all. */
import { describe } from 'vitest';
import { drawn, testSeed } from '../../fixtures/seeded-random.js';
import { SCHEDULE_CASES, schedulesOf } from '../../suites/schedules.suite.js';

describe(`random schedules (seed ${testSeed})`, () => {
  schedulesOf(
    drawn(
      SCHEDULE_CASES.filter(({ tp }) => tp < 4),
      18,
    ),
    1,
  );
});
