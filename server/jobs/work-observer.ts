/**
 * Who watches a pool work: what the batch loop, the pool and the manager tell it, and what it may ask them.
 *
 * Calls come from the hot path: an implementation neither blocks nor throws, and `nextToken` allocates nothing.
 */
import type { Inspection } from '../../proto/control.js';
import type { ErrorCode } from '../../proto/errors.js';
import type { FinishReason } from '../requests/job-events.js';

/** How an accepted job ended. */
export interface JobEnding {
  /** A FinishReason: it ended well. */
  reason: FinishReason | ErrorCode;
  /** Since the request reached the pool, tokenising included. */
  durationMs: number;
  /** 0 unless it ended well. */
  newTokens: number;
}

/** A job has left the place that it ran in. */
export interface SlotFreed {
  jobId: number;
  requestId: string;
  slot: number;
  /** preempted: the KV memory ran out; lost: its group has died. It gets a slot again. */
  why: 'finished' | 'cancelled' | 'failed' | 'preempted' | 'lost';
  newTokens: number;
}

export interface WorkObserver {
  /** A job has its slot. */
  jobStarted(waitMs: number, promptTokens: number): void;
  /** A job whose group had died goes on. */
  jobResumed?(): void;
  /** Since the request reached the pool. */
  firstToken(sinceReceivedMs: number): void;
  /** With the first token, where there is a prefix cache. @param cachedTokens of the prompt, not computed again */
  prefixLookedUp?(promptTokens: number, cachedTokens: number): void;
  /** Since the token before it, of the same job. */
  nextToken(sinceLastMs: number): void;
  /** Tokens of one sequence were guessed in a step. @param accepted of them, which count */
  draftsTried?(drafts: number, accepted: number): void;
  /** Times are rank 0's. `rows`: sequences that ran in the step. */
  stepDone(rows: number, computeUs: number, collectiveUs: number, chooseUs: number): void;
  jobEnded(ending: JobEnding): void;
  /** A request was refused before it became a job. */
  refused(code: ErrorCode): void;
  /** A group that had died is being started again. */
  groupRestarted(): void;
  /** A handler's own metric, as a line of TorchServe's form. */
  metricTold?(line: string): void;
  /** The first group runs. @param fetchMs before that, to find the model's folder: a download, or nearly nothing */
  loaded(durationMs: number, fetchMs?: number): void;
  loadingFailed(): void;
  /** The pool is gone: nothing comes after this. */
  closed(): void;
}

/** What a rank says of itself, and how it stands beside the others. */
export interface RankReading extends Inspection {
  /** How many times as long as its peers it was busy lately; absent: nobody looks. */
  slowness?: number;
}

/** One worker group at this moment. Zeros where it does not run. */
export interface GroupSample {
  /** The same object for the group's whole life. */
  key: object;
  state: string;
  sequencesRunning: number;
  slots: number;
  kvTokensUsed: number;
  kvTokensCapacity: number;
  /** Rows that the prefix cache keeps of sequences that ended; absent: none. */
  kvTokensWarm?: number;
  /** Rows that are kept of preempted sequences; absent: none. */
  kvTokensSwapped?: number;
  /** What its ranks say of themselves; null while it does not run. */
  inspect: (() => Promise<readonly RankReading[]>) | null;
}

export interface PoolSample {
  ready: boolean;
  jobsWaiting: number;
  groups: readonly GroupSample[];
}

export interface ObservedPool {
  name: string;
  version: string | null;
  /** Percentiles of requests to the model metric log … */
  logRequestMetric: boolean;
  /** … of so many values each. */
  metricsAggregation: number;
}

/** Called when a pool is made. `sample` may be called at any time until `closed`. */
export type ObservePool = (model: ObservedPool, sample: () => PoolSample) => WorkObserver;
