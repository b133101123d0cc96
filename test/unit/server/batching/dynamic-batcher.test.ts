/** Dynamic batching: fill, delay, no joins. */
import { describe, expect, it } from 'vitest';
import type { BatcherState } from '../../../../server/batching/batcher.js';
import { DynamicBatcher } from '../../../../server/batching/dynamic-batcher.js';
import { batcherSuite } from '../../../suites/batcher.suite.js';

batcherSuite('dynamic batching', () => new DynamicBatcher(3, 100));

const job = (queuedAtMs: number) => ({ promptIds: [1, 2], maxNewTokens: 10, queuedAtMs });
const state = (fields: Partial<BatcherState>): BatcherState => ({
  waiting: [],
  running: [],
  freeSlots: 3,
  freeKvTokens: 64 * 100,
  prefillTokens: 64,
  ...fields,
});
const batcher = new DynamicBatcher(3, 100);

describe('dynamic batching', () => {
  it('starts a full batch at once', () => {
    const waiting = [job(0), job(1), job(2), job(3)];
    expect(batcher.next(state({ waiting }), 3)).toEqual({
      starts: 3,
      rows: [
        { index: 0, tokens: 2 },
        { index: 1, tokens: 2 },
        { index: 2, tokens: 2 },
      ],
    });
  });

  it('waits for company until the oldest has waited its delay, and says when that is', () => {
    const waiting = [job(50), job(120)];
    expect(batcher.wakeAtMs(state({ waiting }))).toBe(150);
    expect(batcher.next(state({ waiting }), 149)).toBeNull();
    expect(batcher.next(state({ waiting }), 150)?.starts).toBe(2);
  });

  it('lets nobody join while a sequence of the batch still runs', () => {
    const waiting = [job(0), job(0), job(0)];
    const running = [{ promptLeft: 0, decodesLeft: 1 }];
    expect(batcher.next(state({ waiting, running }), 500)).toEqual({
      starts: 0,
      rows: [{ index: 0, tokens: 1 }],
    });
    const awaited = [{ promptLeft: 0, decodesLeft: 0 }];
    expect(batcher.next(state({ waiting, running: awaited }), 500)).toBeNull();
    expect(batcher.wakeAtMs(state({ waiting, running: awaited }))).toBeNull();
  });

  it('starts the next batch at once after a busy time', () => {
    expect(batcher.next(state({ waiting: [job(0)] }), 900)?.starts).toBe(1);
  });
});
