/**
 * Jobs of made-up tokens, for what is measured through the server's batch loop: no text, no HTTP.
 */
import { GREEDY_SAMPLING } from '../proto/control.js';
import type { TokenTexts } from '../server/batching/token-texts.js';
import { systemClock } from '../server/jobs/clock.js';
import { GenerationJob } from '../server/jobs/generation-job.js';

/** Random weights make no text. */
export const NO_TEXTS: TokenTexts = {
  tokenText: () => '',
  isSpecial: () => false,
  detokenizer: () => ({ push: () => '', flush: () => '' }),
};

/** Token ids that differ from number to number. */
export const madeUpIds = (number: number, tokens: number): number[] =>
  Array.from({ length: tokens }, (_, index) => 1 + ((number * 31 + index * 7) % 1000));

export function makeJob(
  id: number,
  promptIds: readonly number[],
  maxNewTokens: number,
  cacheSalt?: string,
): GenerationJob {
  return new GenerationJob({
    id,
    request: {
      kind: 'generate',
      requestId: String(id),
      model: 'bench',
      version: null,
      prompt: { kind: 'ids', ids: [] },
      maxNewTokens,
      sampling: {},
      samplingDefaults: {},
      stopStrings: [],
      includeStopString: false,
      stopTokenIds: [],
      ignoreEndIds: true,
      skipSpecialTokens: false,
      logprob: false,
      topLogprobs: 0,
      ...(cacheSalt === undefined ? {} : { cacheSalt }),
    },
    promptIds,
    maxNewTokens,
    endIds: [],
    sampling: GREEDY_SAMPLING,
    seed: 0,
    queuedAtMs: systemClock.nowMs(),
  });
}
