/**
 * A job: an accepted request, resolved and checked. It ends exactly once. An engine adds what it needs to run it
 * (generation-job.ts).
 *
 * Life    queued → started → ended. `cancel` may come at any time, from the client's signal, an early return of the reader, a
 *         deadline or a shutdown; whoever holds the job (queue or engine) listens to `signal` and lets go of it.
 */
import { ServingError } from '../../proto/errors.js';
import { type AddressedRequest, DEFAULT_PRIORITY } from '../requests/addressed-request.js';
import { systemClock } from './clock.js';
import { JobStream } from './job-stream.js';

export interface JobOptions {
  /** Unique in the life of the server. */
  id: number;
  request: AddressedRequest;
  /** Events that it may have at most. */
  eventCapacity: number;
  queuedAtMs: number;
  /** When the request came, on the same clock; absent: queuedAtMs. */
  receivedAtMs?: number;
}

export class Job {
  readonly id: number;
  readonly request: AddressedRequest;
  readonly stream: JobStream;
  /** Resolves when the stream has got its last event or error. */
  readonly ended: Promise<void>;
  readonly queuedAtMs: number;
  /** Lower is served first. */
  readonly priority: number;
  /** When it must have ended, on the clock of queuedAtMs: the request's limit counts from when it came. null: whenever. */
  readonly deadlineMs: number | null;
  /** When the request came, before anything was done for it. */
  readonly receivedAtMs: number;
  /** When it came back to the queue, its group being lost; null: it has not. */
  putBackAtMs: number | null = null;
  /** When an engine took it first; null before. */
  startedAtMs: number | null = null;
  /** When its stream ended; null before. */
  endedAtMs: number | null = null;
  /** Replicas that died while they ran it. */
  deaths = 0;
  /** Made when somebody asks for it: most jobs end without. */
  #abort: AbortController | null = null;
  #cancelledBy: ServingError | null = null;
  readonly #onCancel = new Set<() => void>();

  constructor({ eventCapacity, id, queuedAtMs, receivedAtMs = queuedAtMs, request }: JobOptions) {
    const { priority = DEFAULT_PRIORITY, timeoutMs = null } = request;
    this.id = id;
    this.request = request;
    this.queuedAtMs = queuedAtMs;
    this.receivedAtMs = receivedAtMs;
    this.priority = priority;
    this.deadlineMs = timeoutMs === null ? null : receivedAtMs + timeoutMs;
    let onEnded = (): void => {};
    this.ended = new Promise((resolve) => {
      onEnded = resolve;
    });
    this.stream = new JobStream({
      capacity: eventCapacity,
      onAbandoned: () => this.cancel(clientLeft()),
      onEnded: () => {
        this.endedAtMs = systemClock.nowMs();
        onEnded();
      },
    });
  }

  /** Aborted by `cancel`; its reason is the error that the stream ended with. */
  get signal(): AbortSignal {
    if (this.#abort === null) {
      this.#abort = new AbortController();
      if (this.#cancelledBy !== null) this.#abort.abort(this.#cancelledBy);
    }
    return this.#abort.signal;
  }

  /** Calls `listener` when the job is cancelled, until the returned function is called. A signal's listener costs ten times as much. */
  onCancel(listener: () => void): () => void {
    this.#onCancel.add(listener);
    return () => this.#onCancel.delete(listener);
  }

  get cancelled(): boolean {
    return this.#cancelledBy !== null;
  }

  /** What it is cancelled with when its deadline has passed. */
  deadlinePassed(): ServingError {
    const ms = Math.round((this.deadlineMs ?? 0) - this.receivedAtMs);
    return new ServingError(
      'REQUEST_TIMEOUT',
      `The request was not done after ${ms} ms (x-request-timeout-ms, or option.request_timeout)`,
    );
  }

  /** Ends the stream with `reason` and tells the holder of the job; nothing happens when the job has ended. */
  cancel(reason: ServingError): void {
    if (this.stream.ended) return;
    this.stream.fail(reason);
    this.#cancelledBy = reason;
    for (const listener of this.#onCancel) listener();
    this.#onCancel.clear();
    this.#abort?.abort(reason);
  }
}

export const clientLeft = (): ServingError => new ServingError('CANCELLED', 'The client closed the request');
