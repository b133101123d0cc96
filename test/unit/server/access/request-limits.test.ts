/** RequestLimits: requests and tokens a minute, requests at once, each key for itself. */
import { describe, expect, it } from 'vitest';
import type { AccessKey, KeyLimits } from '../../../../server/access/access-key.js';
import { digestOf, NO_LIMITS } from '../../../../server/access/access-key.js';
import { RequestLimits } from '../../../../server/access/request-limits.js';

const keyOf = (name: string, limits?: Partial<KeyLimits>): AccessKey => ({
  ...{ name, digest: digestOf(name), scopes: ['infer'], priority: null },
  ...(limits && { limits }),
});

function limited(defaults: Partial<KeyLimits>) {
  const clock = { nowMs: 0 };
  return { clock, limits: new RequestLimits({ ...NO_LIMITS, ...defaults }, () => clock.nowMs) };
}

const refusal = (act: () => unknown): { code?: string; message?: string; retryAfterSeconds?: number } => {
  try {
    act();
  } catch (error) {
    return error as object;
  }
  return {};
};

describe('limits of a key', () => {
  it('let so many requests begin in a minute, and the next when its time has come', () => {
    const { clock, limits } = limited({ requestsPerMinute: 3 });
    for (let count = 0; count < 3; count++) limits.begin(keyOf('a'))();
    expect(refusal(() => limits.begin(keyOf('a')))).toMatchObject({
      code: 'RATE_LIMITED',
      message: 'The key a may send 3 requests a minute; try again in 20 s',
      retryAfterSeconds: 20,
    });
    clock.nowMs = 19_999;
    expect(refusal(() => limits.begin(keyOf('a'))).retryAfterSeconds).toBe(1);
    clock.nowMs = 20_000;
    limits.begin(keyOf('a'))();
    expect(refusal(() => limits.begin(keyOf('a'))).code).toBe('RATE_LIMITED');
  });

  it('count each key for itself, and what has none as one more', () => {
    const { limits } = limited({ requestsPerMinute: 1 });
    for (const key of [keyOf('a'), keyOf('b'), null]) {
      limits.begin(key)();
      expect(refusal(() => limits.begin(key)).code).toBe('RATE_LIMITED');
    }
    expect(refusal(() => limits.begin(null)).message).toMatch(/^Requests without a key may send 1 requests/);
  });

  it('of an entry of the file go before those for all, one by one', () => {
    const { limits } = limited({ requestsPerMinute: 1, concurrentRequests: 1 });
    const key = keyOf('a', { requestsPerMinute: 2 });
    limits.begin(key)();
    const end = limits.begin(key);
    expect(refusal(() => limits.begin(key)).message).toMatch(/may run 1 at once/);
    end();
    expect(refusal(() => limits.begin(key)).message).toMatch(/may send 2 requests a minute/);
  });

  it('give a place back once, however often it is told', () => {
    const { limits } = limited({ concurrentRequests: 2 });
    const ends = [limits.begin(null), limits.begin(null)];
    expect(refusal(() => limits.begin(null))).toMatchObject({ code: 'RATE_LIMITED', retryAfterSeconds: 1 });
    ends[0]!();
    ends[0]!();
    limits.begin(null);
    expect(refusal(() => limits.begin(null)).code).toBe('RATE_LIMITED');
  });

  it('let what an answer used beyond the limit be made up by waiting, for five minutes at most', () => {
    const { clock, limits } = limited({ tokensPerMinute: 600 });
    const id = undefined;
    expect(limits.countsTokens(id)).toBe(false);
    limits.begin(null)();
    expect(limits.countsTokens(id)).toBe(true);
    limits.charge(id, 900);
    expect(limits.allowance(null).tokens).toEqual({ limit: 600, left: 0 });
    expect(refusal(() => limits.begin(null))).toMatchObject({
      message: 'Requests without a key may use 600 tokens a minute; try again in 31 s',
      retryAfterSeconds: 31,
    });
    clock.nowMs = 31_000;
    limits.begin(null)();
    limits.charge(id, 1_000_000);
    expect(refusal(() => limits.begin(null)).retryAfterSeconds).toBe(301);
  });

  it('count a request that goes on behind its response, but not against who asks for its answer', () => {
    const { limits } = limited({ concurrentRequests: 1 });
    const end = limits.begin(null);
    const endBehind = limits.goOn(null);
    end();
    expect(refusal(() => limits.begin(null)).code).toBe('RATE_LIMITED');
    limits.begin(null, true)();
    endBehind();
    endBehind();
    limits.begin(null)();
  });

  it('forgive nothing, however many other keys ask', () => {
    const { limits } = limited({ requestsPerMinute: 1 });
    limits.begin(keyOf('a'))();
    for (let count = 0; count < 2500; count++) limits.begin(keyOf(`other ${count}`))();
    expect(refusal(() => limits.begin(keyOf('a'))).code).toBe('RATE_LIMITED');
  });

  it('that are none refuse nothing', () => {
    const { limits } = limited({});
    for (let count = 0; count < 10_000; count++) limits.begin(keyOf('a'));
    expect(limits.countsTokens(undefined)).toBe(false);
    expect(limits.allowance(keyOf('a'))).toEqual({ requests: null, tokens: null });
  });
});
