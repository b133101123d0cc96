/**
 * Continuous batching: sequences join and leave at every step.
 *
 * In      waiting jobs, running sequences, free slots and KV tokens, the step's prompt tokens
 * Out     a batch: a decode of every running sequence, and prompt chunks of those not through their prompt; null when nothing can run
 * Limits  free slots and KV tokens; `prefillTokens` prompt tokens a step
 * Pure    no clock
 * Source  iteration-level scheduling of Orca (OSDI '22); chunks beside decodes after Sarathi-Serve (OSDI '24)
 */
import type { Batch, Batcher, BatcherState } from './batcher.js';
import { asStarted, countStarts, type PromptOrder, planRows } from './row-planner.js';
import { KV_PAGE_TOKENS, kvTokensToStart } from './slot-table.js';

export class ContinuousBatcher implements Batcher {
  readonly #order: PromptOrder;

  constructor(order: PromptOrder = 'shortest') {
    this.#order = order;
  }

  next(state: BatcherState): Batch | null {
    const starts = countStarts(state.waiting, Number.POSITIVE_INFINITY, state.freeSlots, state.freeKvTokens);
    const started = state.waiting.slice(0, starts).map(asStarted);
    const rows = planRows([...state.running, ...started], state, this.#order);
    return starts > 0 || rows.length > 0 ? { starts, rows } : null;
  }

  wakeAtMs(): null {
    return null;
  }

  room({ freeKvTokens, freeSlots, waiting }: BatcherState): number {
    const starts = countStarts(waiting, Number.POSITIVE_INFINITY, freeSlots, freeKvTokens);
    if (starts < waiting.length) return starts;
    const kvLeft = waiting.reduce((left, job) => left - kvTokensToStart(job), freeKvTokens);
    return starts + Math.min(freeSlots - starts, Math.floor(kvLeft / KV_PAGE_TOKENS));
  }
}
