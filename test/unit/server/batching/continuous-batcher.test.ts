/** Continuous batching: join at every step, share the prompt tokens. */
import { describe, expect, it } from 'vitest';
import type { BatcherState } from '../../../../server/batching/batcher.js';
import { ContinuousBatcher } from '../../../../server/batching/continuous-batcher.js';
import { batcherSuite } from '../../../suites/batcher.suite.js';

batcherSuite('continuous batching', () => new ContinuousBatcher());
batcherSuite('continuous batching, fair', () => new ContinuousBatcher('fair'));

const job = (promptTokens: number, maxNewTokens = 10) => ({
  promptIds: new Array<number>(promptTokens).fill(1),
  maxNewTokens,
  queuedAtMs: 0,
});
const state = (fields: Partial<BatcherState>): BatcherState => ({
  waiting: [],
  running: [],
  freeSlots: 8,
  freeKvTokens: 64 * 100,
  prefillTokens: 64,
  ...fields,
});
const next = (fields: Partial<BatcherState>) => new ContinuousBatcher().next(state(fields));

describe('continuous batching', () => {
  it('lets a job join those that run, decodes first', () => {
    const batch = next({ waiting: [job(20)], running: [{ promptLeft: 0, decodesLeft: 5 }] });
    expect(batch).toEqual({
      starts: 1,
      rows: [
        { index: 0, tokens: 1 },
        { index: 1, tokens: 20 },
      ],
    });
  });

  it('cuts a long prompt into chunks of the budget', () => {
    expect(next({ waiting: [job(200)] })?.rows).toEqual([{ index: 0, tokens: 64 }]);
    expect(next({ running: [{ promptLeft: 8, decodesLeft: 9 }] })?.rows).toEqual([{ index: 0, tokens: 8 }]);
  });

  it('gives half of the budget to the oldest prompt and the rest to short ones behind it', () => {
    const rows = next({ waiting: [job(1000), job(500), job(10), job(12)] })?.rows;
    expect(rows).toEqual([
      { index: 0, tokens: 32 },
      { index: 1, tokens: 10 },
      { index: 2, tokens: 10 },
      { index: 3, tokens: 12 },
    ]);
  });

  it('runs prompts of equal length one after the other', () => {
    const rows = next({ waiting: [job(60), job(60), job(60)] })?.rows;
    expect(rows).toEqual([
      { index: 0, tokens: 32 },
      { index: 1, tokens: 32 },
    ]);
  });

  it('runs as many prompts of a crowd in one step as its tokens hold', () => {
    const waiting = Array.from({ length: 8 }, () => job(60));
    const rows = next({ waiting, prefillTokens: 300 })?.rows;
    expect(rows?.map(({ tokens }) => tokens)).toEqual([60, 60, 60, 60, 60]);
  });

  it('fair: gives each prompt the same, what a short one leaves to the others, and the oldest where there is too little', () => {
    const fair = (fields: Partial<BatcherState>) =>
      new ContinuousBatcher('fair').next(state(fields))?.rows.map(({ index, tokens }) => [index, tokens]);
    expect(fair({ waiting: [job(100), job(4), job(100)], prefillTokens: 64 })).toEqual([
      [0, 30],
      [1, 4],
      [2, 30],
    ]);
    expect(fair({ waiting: [job(9), job(9), job(9)], prefillTokens: 2 })).toEqual([
      [0, 1],
      [1, 1],
    ]);
  });

  it('gives what short prompts leave to the oldest', () => {
    expect(next({ waiting: [job(100), job(4)] })?.rows).toEqual([
      { index: 0, tokens: 60 },
      { index: 1, tokens: 4 },
    ]);
  });

  it('starts jobs in their order, and lets none pass the first that does not fit', () => {
    const waiting = [job(60, 4), job(600, 40), job(10, 10)];
    expect(next({ waiting, freeKvTokens: 64 * 5 })?.starts).toBe(1);
    expect(next({ waiting, freeKvTokens: 64 * 11 })?.starts).toBe(2);
    expect(next({ waiting, freeKvTokens: 64 * 12 })?.starts).toBe(3);
    expect(next({ waiting, freeSlots: 2 })?.starts).toBe(2);
  });

  it('counts KV tokens in whole pages', () => {
    expect(next({ waiting: [job(60, 4)], freeKvTokens: 64 })?.starts).toBe(1);
    expect(next({ waiting: [job(61, 4)], freeKvTokens: 64 })).toBeNull();
  });
});

describe('prompts that run whole', () => {
  const texts = (lengths: readonly number[]) =>
    next({ waiting: lengths.map((length) => job(length, 0)), wholePrompts: true })?.rows;

  it('stand beside each other as far as they fit, in their order', () => {
    expect(texts([30, 20, 20, 14])).toEqual([
      { index: 0, tokens: 30 },
      { index: 1, tokens: 20 },
      { index: 3, tokens: 14 },
    ]);
  });

  it('the oldest runs whatever its length, alone where nothing fits beside it', () => {
    expect(texts([200, 1])).toEqual([{ index: 0, tokens: 200 }]);
  });

  it('one that was left out is the oldest of the next step', () => {
    const left = [
      { promptLeft: 0, decodesLeft: 0 },
      { promptLeft: 90, decodesLeft: 0 },
      { promptLeft: 5, decodesLeft: 0 },
    ];
    expect(next({ running: left, wholePrompts: true })?.rows).toEqual([{ index: 1, tokens: 90 }]);
  });
});
