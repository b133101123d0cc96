/** When the load generator says that it measured itself; what a request must keep for goodput; lengths and prompts by seed. */
import { describe, expect, it } from 'vitest';
import { figuresOf } from '../../../../tuner/load/figures.js';
import { bottleneckOf } from '../../../../tuner/load/own-share.js';
import { Prompts } from '../../../../tuner/load/prompts.js';
import { Random } from '../../../../tuner/load/random.js';
import type { RequestRecord } from '../../../../tuner/load/request-record.js';
import { drawLength, lengths } from '../../../../tuner/load/token-lengths.js';

describe('the load generator', () => {
  it('is the bottleneck when it used its core up, or started requests late', () => {
    expect(bottleneckOf(0.3, 1, 100)).toBe(null);
    expect(bottleneckOf(0.93, 1, 100)).toMatch(/used 0\.93 cores of the one that it has/);
    expect(bottleneckOf(0.3, 25, 100)).toMatch(/started 25\.0 ms late or later \(10\.0 ms may be\)/);
    // A timer's own fault is none.
    expect(bottleneckOf(0.3, 2.5, 1)).toBe(null);
  });
});

const record = (fields: Partial<RequestRecord>): RequestRecord => ({
  ...{ index: 0, intended_ms: 0, started_ms: 2, first_token_ms: 12, ended_ms: 32, token_gaps_ms: [10, 10] },
  ...{ tokens_in: 5, tokens_out: 3, error: null, phase: 'window', window: 0 },
  ...fields,
});

describe('figures', () => {
  it('count latency and first token from the intended start, tokens and errors by all', () => {
    const figures = figuresOf([record({}), record({ error: 'QUEUE_FULL', tokens_out: null })], 1000, null);
    expect(figures).toMatchObject({
      ...{ throughput_per_s: 1, latency_p99_ms: 32, first_token_p50_ms: 12, token_gap_p50_ms: 10 },
      ...{ tokens_in_per_s: 5, tokens_out_per_s: 3, error_share: 0.5, goodput_per_s: null },
    });
  });

  it('goodput is of requests that keep every limit', () => {
    const records = [record({}), record({ ended_ms: 500 }), record({ token_gaps_ms: [10, 100] })];
    const limits = { latency_ms: 100, first_token_ms: 20, token_gap_ms: 50 };
    expect(figuresOf(records, 1000, limits).goodput_per_s).toBe(1);
  });
});

describe('prompts', () => {
  const options = {
    ...{
      seed: 1,
      promptTokens: lengths({ min: 5, max: 9 }),
      maxNewTokens: lengths(4),
      sharedPrefixTokens: 0,
    },
    ...{ ids: null, countTokens: (text: string) => text.split(' ').length, texts: null },
  };

  it('are the same for a seed, of the lengths asked for, and no two alike', () => {
    const made = (seed: number) => {
      const prompts = new Prompts({ ...options, seed });
      return Array.from({ length: 50 }, (_, index) => prompts.payload(index));
    };
    expect(made(1)).toEqual(made(1));
    expect(made(1)).not.toEqual(made(2));
    const one = made(1);
    expect(one.every(({ promptTokens }) => promptTokens! >= 5 && promptTokens! <= 9)).toBe(true);
    expect(new Set(one.map(({ prompt }) => prompt)).size).toBe(50);
  });

  it('share a beginning when that is asked for', () => {
    const prompts = new Prompts({ ...options, sharedPrefixTokens: 4, promptTokens: lengths(8) });
    const texts = [0, 1, 2].map((index) => prompts.payload(index).prompt as string);
    const begin = texts.map((text) => text.split(' ').slice(0, 4).join(' '));
    expect(new Set(begin).size).toBe(1);
    expect(new Set(texts).size).toBe(3);
  });

  it('are ids where there is no tokenizer and the protocol takes ids', () => {
    const prompts = new Prompts({ ...options, countTokens: null, ids: { first: 10, last: 20 } });
    const { prompt, promptTokens } = prompts.payload(0);
    expect(prompt).toHaveLength(promptTokens!);
  });
});

it('lengths: a number, a range of all alike, a bell with ends', () => {
  const random = new Random(3);
  const drawn = (given: Parameters<typeof lengths>[0]) =>
    Array.from({ length: 2000 }, () => drawLength(lengths(given), random));
  expect(new Set(drawn(7))).toEqual(new Set([7]));
  const range = drawn({ min: 2, max: 5 });
  expect(new Set(range)).toEqual(new Set([2, 3, 4, 5]));
  const bell = drawn({ mean: 100, deviation: 10, min: 90, max: 120 });
  expect(Math.min(...bell)).toBeGreaterThanOrEqual(90);
  expect(Math.max(...bell)).toBeLessThanOrEqual(120);
});
