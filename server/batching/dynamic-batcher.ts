/**
 * Dynamic batching: up to `batchSize` requests start together; nobody joins until the last of them has ended.
 *
 * In      waiting jobs, running sequences, free slots and KV tokens, the step's prompt tokens
 * Out     a batch, or null while the batch still fills or nothing can run
 * Limits  batchSize requests; the oldest waits at most maxBatchDelayMs for company once nothing runs
 * Pure    nowMs is an argument
 *
 * The delay counts from when the oldest was queued: after a busy time the next batch starts at once. Each request of a batch
 * is answered when it ends itself; its slot stays empty until the batch is over.
 */
import type { Batch, Batcher, BatcherState } from './batcher.js';
import { asStarted, countStarts, type PromptOrder, planRows } from './row-planner.js';

export class DynamicBatcher implements Batcher {
  readonly #batchSize: number;
  readonly #maxBatchDelayMs: number;
  readonly #order: PromptOrder;

  constructor(batchSize: number, maxBatchDelayMs: number, order: PromptOrder = 'shortest') {
    this.#batchSize = batchSize;
    this.#maxBatchDelayMs = maxBatchDelayMs;
    this.#order = order;
  }

  next(state: BatcherState, nowMs: number): Batch | null {
    if (state.running.length > 0) {
      const rows = planRows(state.running, state, this.#order);
      return rows.length > 0 ? { starts: 0, rows } : null;
    }
    const dueMs = this.wakeAtMs(state);
    if (dueMs === null || (state.waiting.length < this.#batchSize && nowMs < dueMs)) return null;
    const starts = countStarts(state.waiting, this.#batchSize, state.freeSlots, state.freeKvTokens);
    if (starts === 0) return null;
    return { starts, rows: planRows(state.waiting.slice(0, starts).map(asStarted), state, this.#order) };
  }

  wakeAtMs(state: BatcherState): number | null {
    if (state.waiting.length === 0 || state.running.length > 0) return null;
    // With priorities the first is not always the oldest.
    let oldestMs = Number.POSITIVE_INFINITY;
    for (const { queuedAtMs } of state.waiting) oldestMs = Math.min(oldestMs, queuedAtMs);
    return oldestMs + this.#maxBatchDelayMs;
  }

  room({ freeSlots, running }: BatcherState): number {
    return running.length === 0 ? Math.min(this.#batchSize, freeSlots) : 0;
  }
}
