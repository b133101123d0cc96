/**
 * What a batcher decides: who starts, and how many tokens each sequence runs in the next step.
 *
 * Implementations  continuous-batcher.ts (join and leave at every step), dynamic-batcher.ts (whole batches)
 * Pure             no clock, no queue, no socket: everything is in the arguments, and nothing is changed
 * Invariants       starts are a prefix of `waiting` that fits the free slots and KV tokens; a
 *                  sequence stands in a batch once; prompt tokens of a batch stay within `prefillTokens`, but for the oldest of
 *                  prompts that run whole
 */

/** A queued job, as far as a batcher cares; or one that was preempted: then the prompt has the tokens that it made, too. */
export interface WaitingJob {
  readonly promptIds: readonly number[];
  readonly maxNewTokens: number;
  readonly queuedAtMs: number;
  /** Its first rows are there still: fewer than the prompt has tokens. Absent: none. */
  readonly keptRows?: number;
}

/** A sequence that has a slot, as far as a batcher cares. */
export interface RunningSequence {
  /** Prompt tokens not planned yet. The step that runs the last of them yields the first new token. */
  readonly promptLeft: number;
  /** Its prompt is not to be run now: it waits for another's. Absent: it runs. */
  readonly held?: boolean;
  /** What its next step needs is not known yet (the mask of a constrained answer): it is in none. Absent: it is. */
  readonly awaits?: boolean;
  /** New tokens after the first that may still be asked for; 0 when all are planned or the end is known. */
  readonly decodesLeft: number;
}

export interface BatcherState {
  /** In the order in which they may start: by priority, then by age. */
  readonly waiting: readonly WaitingJob[];
  /** Oldest first. */
  readonly running: readonly RunningSequence[];
  readonly freeSlots: number;
  /** Less what those that run will soon grow by. */
  readonly freeKvTokens: number;
  /** Prompt tokens the step may run: as many as fit the time of a prefill chunk, so that the streams beside it do not wait for a whole prompt. */
  readonly prefillTokens: number;
  /** A prompt runs in one step or not at all (texts to embed); absent: in pieces. */
  readonly wholePrompts?: boolean;
}

export interface BatchRow {
  /** Into `running` followed by the jobs that start. */
  readonly index: number;
  /** Prompt tokens to run, or 1 for a decode. */
  readonly tokens: number;
}

export interface Batch {
  /** So many jobs from the front of `waiting` get a slot. */
  readonly starts: number;
  /** Decodes first, then prompts. */
  readonly rows: readonly BatchRow[];
}

export interface Batcher {
  /** The next step, or null when nothing can run in this state. */
  next(state: BatcherState, nowMs: number): Batch | null;
  /** When `next` may decide otherwise though the state stays as it is; null: never. */
  wakeAtMs(state: BatcherState): number | null;
  /** Jobs that would start at once: those from the front of `waiting`, and others behind them if all of those fit. */
  room(state: BatcherState): number;
}
