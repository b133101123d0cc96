/** Whose sampling value wins. */
import { describe, expect, it } from 'vitest';
import type { ModelInfo } from '../../../../../proto/manifest.js';
import { resolveSampling } from '../../../../../server/engines/llm/sampling.js';
import type { GenerateRequest } from '../../../../../server/requests/generate-request.js';
import { makeRequest } from '../../../../fixtures/generate-requests.js';

const resolve = (
  request: Partial<GenerateRequest>,
  generationDefaults: ModelInfo['generationDefaults'] = {},
  maxNewTokens = 20,
) =>
  resolveSampling(
    makeRequest(request),
    { vocabSize: 100, generationDefaults },
    maxNewTokens,
    () => 2 ** 52 + 5,
  );

describe('sampling', () => {
  it('takes the request, then generation_config.json, then the dialect', () => {
    const { sampling } = resolve(
      {
        sampling: { doSample: true, temperature: 0.1 },
        samplingDefaults: { temperature: 3, topP: 0.3, topK: 7 },
      },
      { temperature: 0.5, top_p: 0.9 },
    );
    expect(sampling).toMatchObject({ greedy: false, temperature: 0.1, topP: 0.9, topK: 7 });
  });

  it('is greedy at a temperature whose quotients leave the range of numbers, from whichever place', () => {
    expect(resolve({ sampling: { temperature: 1e-310 } }).sampling).toMatchObject({
      greedy: true,
      temperature: 1,
    });
    expect(resolve({ sampling: { doSample: true } }, { temperature: 9e-6 }).sampling.greedy).toBe(true);
    expect(resolve({ sampling: { temperature: 1e-5 } }).sampling).toMatchObject({
      greedy: false,
      temperature: 1e-5,
    });
  });

  it('is off where nobody says anything: greedy, and every processor neutral', () => {
    expect(resolve({}).sampling).toEqual({
      greedy: true,
      temperature: 1,
      topK: 0,
      topP: 1,
      minP: 0,
      typicalP: 1,
      repetitionPenalty: 1,
      presencePenalty: 0,
      frequencyPenalty: 0,
      minNewTokens: 0,
      seedLow: 5,
      seedHigh: 2 ** 20,
      logitBias: {},
      allowedIds: [],
      badWords: [],
      logprob: false,
      topLogprobs: 0,
    });
  });

  it.each([
    ['do_sample false', { doSample: false, temperature: 0.9 }],
    ['temperature 0', { doSample: true, temperature: 0 }],
  ])('is greedy with %s, whatever the model says', (_, sampling) => {
    expect(resolve({ sampling }, { do_sample: true, temperature: 0.8 }).sampling.greedy).toBe(true);
  });

  it('is greedy when generation_config.json or the dialect has temperature 0', () => {
    expect(resolve({ sampling: { doSample: true } }, { temperature: 0 }).sampling.greedy).toBe(true);
    expect(resolve({ samplingDefaults: { doSample: true, temperature: 0 } }).sampling.greedy).toBe(true);
  });

  it('samples when the request only names a temperature above 0', () => {
    expect(
      resolve({ sampling: { temperature: 0.7 }, samplingDefaults: { doSample: false } }).sampling,
    ).toMatchObject({
      greedy: false,
      temperature: 0.7,
    });
  });

  it('samples when generation_config.json says so and the request says nothing', () => {
    const { sampling } = resolve({ samplingDefaults: { doSample: false } }, { do_sample: true, top_k: 40 });
    expect(sampling).toMatchObject({ greedy: false, topK: 40 });
    expect(resolve({ samplingDefaults: { doSample: true } }, { do_sample: false }).sampling.greedy).toBe(
      true,
    );
  });

  it('takes every sampling key of generation_config.json; top_k -1 is off', () => {
    const { sampling } = resolve(
      { samplingDefaults: { doSample: true } },
      {
        ...{ temperature: 0.7, top_p: 0.8, top_k: -1, repetition_penalty: 1.1, min_p: 0.1, typical_p: 0.9 },
        ...{ presence_penalty: 0.5, frequency_penalty: -0.5, min_new_tokens: 3 },
      },
    );
    expect(sampling).toMatchObject({
      ...{ temperature: 0.7, topP: 0.8, topK: 0, repetitionPenalty: 1.1, minP: 0.1, typicalP: 0.9 },
      ...{ presencePenalty: 0.5, frequencyPenalty: -0.5, minNewTokens: 3 },
    });
  });

  it('tells the seed it was given or made, and passes it on in two halves', () => {
    expect(resolve({})).toMatchObject({ seed: 2 ** 52 + 5, sampling: { seedLow: 5, seedHigh: 2 ** 20 } });
    const largest = 2 ** 53 - 1;
    expect(resolve({ sampling: { seed: largest } })).toMatchObject({
      seed: largest,
      sampling: { seedLow: 2 ** 32 - 1, seedHigh: 2 ** 21 - 1 },
    });
  });

  it('lowers a default minimum of new tokens to the maximum, and refuses a request that contradicts itself', () => {
    expect(resolve({}, { min_new_tokens: 50 }).sampling.minNewTokens).toBe(20);
    expect(() => resolve({ sampling: { minNewTokens: 21 } })).toThrow(/min_new_tokens is 21.*at most 20/);
    expect(resolve({ sampling: { minNewTokens: 20 } }).sampling.minNewTokens).toBe(20);
  });

  it('refuses a logit bias for a token that is not there, and names the range', () => {
    expect(resolve({ sampling: { logitBias: { 99: -5 } } }).sampling.logitBias).toEqual({ 99: -5 });
    expect(() => resolve({ sampling: { logitBias: { 100: 1 } } })).toThrow(
      /logit_bias: token id 100.*0 … 99/,
    );
  });

  it('asks for log-probabilities when alternatives are wanted', () => {
    expect(resolve({ topLogprobs: 3 }).sampling).toMatchObject({ logprob: true, topLogprobs: 3 });
  });
});
