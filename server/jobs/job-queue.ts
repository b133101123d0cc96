/**
 * Jobs that wait for a slot, oldest first. All groups of a model pull from the one queue of its pool.
 *
 * In      push, by the work load manager
 * Out     `waiting` (a view) and `take`, by the batch loops; a cancelled job leaves at once
 * Limits  `capacity` jobs; a job that has waited `maxWaitMs` leaves with REQUEST_TIMEOUT
 * Errors  push throws QUEUE_FULL with DJLServing's sentence
 */
import assert from 'node:assert/strict';
import { ServingError } from '../../proto/errors.js';
import type { Job } from './job.js';

export class JobQueue {
  readonly capacity: number;
  readonly #model: string;
  readonly #maxWaitMs: number;
  readonly #jobs: Job[] = [];
  readonly #forget = new Map<Job, () => void>();
  readonly #listeners = new Set<() => void>();

  constructor(model: string, capacity: number, maxWaitMs: number) {
    this.#model = model;
    this.capacity = capacity;
    this.#maxWaitMs = maxWaitMs;
  }

  get length(): number {
    return this.#jobs.length;
  }

  /** Oldest first. Not a copy: it changes with the queue. */
  get waiting(): readonly Job[] {
    return this.#jobs;
  }

  /** @throws ServingError QUEUE_FULL */
  push(job: Job): void {
    if (this.#jobs.length >= this.capacity) {
      throw new ServingError('QUEUE_FULL', `Worker queue capacity exceeded for model: ${this.#model}`);
    }
    if (job.cancelled) return;
    const onAbort = (): void => this.#remove(job);
    job.signal.addEventListener('abort', onAbort, { once: true });
    const timer = setTimeout(() => job.cancel(this.#waitedTooLong()), this.#maxWaitMs);
    this.#forget.set(job, () => {
      clearTimeout(timer);
      job.signal.removeEventListener('abort', onAbort);
    });
    this.#jobs.push(job);
    for (const listener of this.#listeners) listener();
  }

  /** Removes `count` jobs from the front. */
  take(count: number): Job[] {
    assert(count <= this.#jobs.length, `${count} jobs taken from a queue of ${this.#jobs.length}`);
    const taken = this.#jobs.splice(0, count);
    for (const job of taken) this.#release(job);
    return taken;
  }

  /** Ends every waiting job with `error`. */
  failAll(error: ServingError): void {
    for (const job of this.take(this.#jobs.length)) job.cancel(error);
  }

  /** Calls `listener` after every push, until the returned function is called. */
  onPush(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #waitedTooLong(): ServingError {
    const limit = this.#maxWaitMs / 1000;
    return new ServingError(
      'REQUEST_TIMEOUT',
      `The request waited ${limit} s for a free slot (option.predict_timeout)`,
    );
  }

  #remove(job: Job): void {
    const index = this.#jobs.indexOf(job);
    assert(index >= 0, 'a job that listens is in the queue');
    this.#jobs.splice(index, 1);
    this.#release(job);
  }

  #release(job: Job): void {
    this.#forget.get(job)?.();
    this.#forget.delete(job);
  }
}
