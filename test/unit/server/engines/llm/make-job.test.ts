/** How many new tokens a request has that names no number, or names one; who is told of the prefix cache. */
import { describe, expect, it } from 'vitest';
import type { ModelInfo } from '../../../../../proto/manifest.js';
import { makeJob } from '../../../../../server/engines/llm/make-job.js';
import type { GenerateRequest } from '../../../../../server/requests/generate-request.js';
import { makeRequest } from '../../../../fixtures/generate-requests.js';

function jobOf(
  request: Partial<GenerateRequest>,
  promptTokens: number,
  generationDefaults = {},
  reportCachedTokens = false,
) {
  return makeJob({
    id: 1,
    request: makeRequest(request),
    promptIds: new Array<number>(promptTokens).fill(5),
    info: { vocabSize: 10, endIds: [3], generationDefaults } as unknown as ModelInfo,
    limits: { slotTokens: 64, kvTokens: 640 },
    normalise: false,
    receivedAtMs: 0,
    queuedAtMs: 0,
    reportCachedTokens,
  });
}

const newTokensOf = (...given: Parameters<typeof jobOf>): number => jobOf(...given).maxNewTokens;

describe('how much of its prompt was computed before', () => {
  it('is told to nobody who shares rows with strangers, unless the operator says so', () => {
    expect(jobOf({}, 10).tellsCached).toBe(false);
    expect(jobOf({ cacheSalt: 'own' }, 10).tellsCached).toBe(true);
    expect(jobOf({}, 10, {}, true).tellsCached).toBe(true);
  });
});

describe('new tokens of a job', () => {
  const nothing = { maxNewTokens: null, usualNewTokens: 16 };

  it("are what is usual in the client's dialect, and fewer where the context holds fewer", () => {
    expect(newTokensOf(nothing, 10)).toBe(16);
    expect(newTokensOf(nothing, 60)).toBe(4);
    expect(newTokensOf(nothing, 10, { max_new_tokens: 5 })).toBe(16);
  });

  it("are the model's usual number, or all of the context, where the dialect has none", () => {
    expect(newTokensOf({ maxNewTokens: null }, 10, { max_new_tokens: 5 })).toBe(5);
    expect(newTokensOf({ maxNewTokens: null }, 10)).toBe(54);
  });

  it('are refused where the client names a number that does not fit', () => {
    expect(() => newTokensOf({ maxNewTokens: 16 }, 60)).toThrow(/at most 4 new tokens/);
  });
});
