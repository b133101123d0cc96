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
import { asStarted, countStarts, planRows } from './row-planner.js';

export class ContinuousBatcher implements Batcher {
  next(state: BatcherState): Batch | null {
    const starts = countStarts(state.waiting, Number.POSITIVE_INFINITY, state.freeSlots, state.freeKvTokens);
    const started = state.waiting.slice(0, starts).map(asStarted);
    const rows = planRows([...state.running, ...started], state.prefillTokens);
    return starts > 0 || rows.length > 0 ? { starts, rows } : null;
  }

  wakeAtMs(): null {
    return null;
  }
}
