/** Error limits: the bucket refills evenly, what is exceeded stays exceeded. */
import { describe, expect, it } from 'vitest';
import { ErrorRates } from '../../../../server/http/error-rates.js';

const NONE = { errorRateWlm: null, errorRateServer: null, errorRateModel: null, errorRateAny: null };

describe('ErrorRates', () => {
  it.each([
    { count: 2, times: [0, 0], tripped: false },
    { count: 2, times: [0, 0, 0], tripped: true },
    { count: 2, times: [0, 0, 499], tripped: true },
    { count: 2, times: [0, 0, 500], tripped: false },
    { count: 2, times: [0, 0, 500, 1000, 1500], tripped: false },
    { count: 1, times: [0, 999], tripped: true },
    { count: 1, times: [0, 1000, 2000], tripped: false },
    { count: 1, times: [5000, 5000], tripped: true },
  ])('$count in 1000 ms, errors at $times', ({ count, times, tripped }) => {
    let now = 0;
    const rates = new ErrorRates({ ...NONE, errorRateAny: { count, windowMs: 1000 } }, () => now);
    for (const time of times) {
      now = time;
      rates.count('INTERNAL', 500);
    }
    expect(rates.tripped).toBe(tripped);
    now = 1_000_000;
    rates.count('BAD_REQUEST', 400);
    expect(rates.tripped).toBe(tripped);
  });
});
