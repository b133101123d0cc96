/**
 * A job: an accepted request with everything the batch loop needs, resolved and checked. It ends exactly once.
 *
 * Life    queued → started (has a slot) → ended. `cancel` may come at any time, from the client's signal, an early return of
 *         the reader, a deadline or a shutdown; whoever holds the job (queue or loop) listens to `signal` and lets go of it.
 */

import type { Sampling } from '../../proto/control.js';
import { ServingError } from '../../proto/errors.js';
import { DEFAULT_PRIORITY, type JobRequest } from './generate-request.js';
import { TokenStream } from './token-stream.js';

export interface JobOptions {
  /** Unique in the life of the server. */
  id: number;
  request: JobRequest;
  promptIds: readonly number[];
  /** Prompt and new tokens fit a slot. 0: the job yields a vector. */
  maxNewTokens: number;
  endIds: readonly number[];
  sampling: Sampling;
  /** The seed as told to the client, 0 … 2^53 − 1. */
  seed: number;
  queuedAtMs: number;
  /** Lower is served first; absent: DEFAULT_PRIORITY. */
  priority?: number;
  /** When it must have ended, on the clock of queuedAtMs; null or absent: whenever. */
  deadlineMs?: number | null;
  /** Of a job that yields a vector. */
  vectorShape?: VectorShape;
}

/** The vector that a job shall yield. */
export interface VectorShape {
  dimensions: number;
  /** It has length 1. */
  normalised: boolean;
}

export class Job {
  readonly id: number;
  readonly request: JobRequest;
  readonly promptIds: readonly number[];
  readonly maxNewTokens: number;
  readonly endIds: readonly number[];
  readonly sampling: Sampling;
  readonly seed: number;
  readonly stream: TokenStream;
  /** Resolves when the stream has got its last event or error. */
  readonly ended: Promise<void>;
  readonly queuedAtMs: number;
  readonly priority: number;
  readonly deadlineMs: number | null;
  readonly vectorShape: VectorShape | null;
  /** When it got its slot; null while it waits. */
  startedAtMs: number | null = null;
  firstTokenAtMs: number | null = null;
  /** NaN before the first; never null, so that a write allocates nothing. */
  lastTokenAtMs = Number.NaN;
  /** When the request reached the pool, before its prompt was tokenised. */
  receivedAtMs: number;
  readonly #abort = new AbortController();

  constructor(options: JobOptions) {
    this.id = options.id;
    this.request = options.request;
    this.promptIds = options.promptIds;
    this.maxNewTokens = options.maxNewTokens;
    this.endIds = options.endIds;
    this.sampling = options.sampling;
    this.seed = options.seed;
    this.queuedAtMs = options.queuedAtMs;
    this.priority = options.priority ?? DEFAULT_PRIORITY;
    this.deadlineMs = options.deadlineMs ?? null;
    this.vectorShape = options.vectorShape ?? null;
    this.receivedAtMs = options.queuedAtMs;
    let onEnded = (): void => {};
    this.ended = new Promise((resolve) => {
      onEnded = resolve;
    });
    this.stream = new TokenStream({
      // A token event each, and the finish.
      capacity: options.maxNewTokens + 1,
      onAbandoned: () => this.cancel(clientLeft()),
      onEnded,
    });
  }

  /** Aborted by `cancel`; its reason is the error that the stream ended with. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get cancelled(): boolean {
    return this.#abort.signal.aborted;
  }

  /** What it is cancelled with when its deadline has passed. */
  deadlinePassed(): ServingError {
    const ms = Math.round((this.deadlineMs ?? 0) - this.receivedAtMs);
    return new ServingError('REQUEST_TIMEOUT', `The request was not done after ${ms} ms (its own limit)`);
  }

  /** Ends the stream with `reason` and tells the holder of the job; nothing happens when the job has ended. */
  cancel(reason: ServingError): void {
    if (this.stream.ended) return;
    this.stream.fail(reason);
    this.#abort.abort(reason);
  }
}

export const clientLeft = (): ServingError => new ServingError('CANCELLED', 'The client closed the request');
