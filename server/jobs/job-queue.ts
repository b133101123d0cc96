/**
 * Jobs that wait for a slot: by priority (lower first) and age, the oldest first among equals. All groups of a model pull from the one
 * queue of its pool.
 *
 * In      push, by the work load manager; putBack, by a loop whose group has died
 * Out     `waiting` (a view) and `take`, by the batch loops; a cancelled job leaves at once
 * Limits  as many jobs as the caller of push allows; a job that has waited `maxWaitMs`, or to its own deadline, leaves with
 *         REQUEST_TIMEOUT and never runs
 * Errors  push throws QUEUE_FULL with DJLServing's sentence, and when to come back; or because those ahead, at the rate at which jobs
 *         start, leave it no chance to start in time: better now than after the wait
 *
 * A priority is worth so many seconds of waiting: a quarter of `maxWaitMs` at most, either way. So whatever comes later, nothing that
 * came more than half of `maxWaitMs` after a job goes before it, and a flood of low numbers starves nobody.
 *
 * All that holds among the jobs of one key, and of those without; between keys turns are fair (fair-order.ts).
 */
import assert from 'node:assert/strict';
import { ServingError } from '../../proto/errors.js';
import { DrainRate } from './drain-rate.js';
import { FairOrder } from './fair-order.js';
import type { Job } from './job.js';

/** A job of this priority has half of the lead, or of the handicap, that there is. */
const HALF_LEAD = 10;

export class JobQueue<J extends Job = Job> {
  readonly capacity: number;
  readonly #model: string;
  readonly #maxWaitMs: number;
  readonly #nowMs: () => number;
  readonly #jobs: J[] = [];
  readonly #forget = new Map<J, () => void>();
  readonly #listeners = new Set<() => void>();
  readonly #drainRate = new DrainRate();
  readonly #fair = new FairOrder<J>();
  /** Jobs of several keys have waited since it was empty. */
  #isMixed = false;

  /** @param nowMs the clock of the jobs' queuedAtMs and deadlineMs */
  constructor(
    model: string,
    capacity: number,
    maxWaitMs: number,
    nowMs: () => number = () => performance.now(),
  ) {
    this.#model = model;
    this.capacity = capacity;
    this.#maxWaitMs = maxWaitMs;
    this.#nowMs = nowMs;
  }

  get length(): number {
    return this.#jobs.length;
  }

  /** The next one first. Not a copy: it changes with the queue. */
  get waiting(): readonly J[] {
    return this.#jobs;
  }

  /**
   * @param limit jobs that may wait, this one included
   * @throws ServingError QUEUE_FULL
   */
  push(job: J, limit = this.capacity): void {
    this.checkRoom(limit);
    if (job.cancelled) return;
    const order = this.#goesLast(job) ? null : this.#orderWith(job);
    this.#checkWait(job, order === null ? this.#jobs.length : order.indexOf(job));
    this.#insert(job, order);
    this.wakeTakers();
  }

  /** Jobs whose group is lost wait as long as new ones may, however many there are, in the places that their age gives them. */
  putBack(jobs: readonly J[]): void {
    for (const job of jobs) {
      if (job.cancelled) continue;
      job.putBackAtMs = this.#nowMs();
      this.#insert(job, this.#orderWith(job));
    }
    if (jobs.length > 0) this.wakeTakers();
  }

  /** Nobody waits, or all are of its key and none is to go after it: as it is nearly always. */
  #goesLast(job: J): boolean {
    const last = this.#jobs.at(-1);
    if (last === undefined) return true;
    return !this.#isMixed && isOfOneKey(last, job) && this.#dueMs(last) <= this.#dueMs(job);
  }

  /** What waits and one job more: each key's own by age and priority, the keys in turn. */
  #orderWith(job: J): J[] {
    const jobs = [...this.#jobs];
    let index = jobs.length;
    const isBefore = (other: J): boolean => isOfOneKey(other, job) && this.#dueMs(other) > this.#dueMs(job);
    const first = jobs.findIndex(isBefore);
    if (first >= 0) index = first;
    jobs.splice(index, 0, job);
    return this.#fair.arranged(jobs);
  }

  /** The same array: takers hold it. */
  #put(order: readonly J[]): void {
    this.#jobs.length = order.length;
    order.forEach((job, index) => {
      this.#jobs[index] = job;
    });
  }

  /** @param order null: it goes last */
  #insert(job: J, order: readonly J[] | null): void {
    const forgetCancel = job.onCancel(() => this.#remove(job));
    const waitMs = Math.max(0, this.#lastMs(job) - this.#nowMs());
    const timer = setTimeout(() => this.dropExpired(), Math.ceil(waitMs));
    this.#forget.set(job, () => {
      clearTimeout(timer);
      forgetCancel();
    });
    const [first] = this.#jobs;
    this.#isMixed = first !== undefined && (this.#isMixed || !isOfOneKey(first, job));
    if (order === null) this.#jobs.push(job);
    else this.#put(order);
  }

  /** @throws ServingError QUEUE_FULL when `limit` jobs wait */
  checkRoom(limit: number): void {
    if (this.#jobs.length < limit) return;
    throw new ServingError('QUEUE_FULL', `Worker queue capacity exceeded for model: ${this.#model}`, {
      retryAfterSeconds: this.#drainRate.secondsFor(this.#jobs.length, this.#nowMs()),
    });
  }

  #checkWait(job: J, ahead: number): void {
    const nowMs = this.#nowMs();
    const mayWaitMs = this.#lastMs(job) - nowMs;
    const expectedMs = this.#drainRate.expectedMs(ahead, nowMs);
    if (expectedMs === null || expectedMs <= mayWaitMs) return;
    const [expected, may] = [expectedMs, mayWaitMs].map((ms) => Math.max(0, Math.ceil(ms / 1000)));
    throw new ServingError(
      'QUEUE_FULL',
      `The request would wait some ${expected} s for a free slot, behind ${ahead} others; it may wait ${may} s (option.predict_timeout, or its own limit)`,
      { retryAfterSeconds: Math.max(1, Math.ceil((expectedMs - mayWaitMs) / 1000)) },
    );
  }

  /** Removes `count` jobs from the front. */
  take(count: number): J[] {
    assert(count <= this.#jobs.length, `${count} jobs taken from a queue of ${this.#jobs.length}`);
    if (count === 0) return [];
    this.#drainRate.taken(count, this.#nowMs());
    const jobs = this.#removeFirst(count);
    for (const job of jobs) this.#fair.taken(job);
    return jobs;
  }

  /** Ends what has waited too long. To be called before a choice is made: a timer may come late. */
  dropExpired(): void {
    const nowMs = this.#nowMs();
    for (const job of this.#jobs.filter((one) => this.#lastMs(one) <= nowMs))
      job.cancel(this.#waitedTooLong(job));
  }

  /** Ends every waiting job with `error`. */
  failAll(error: ServingError): void {
    for (const job of this.#removeFirst(this.#jobs.length)) job.cancel(error);
  }

  /** Calls `listener` after every push, and when there is a new choice to make, until the returned function is called. */
  onPush(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Lets every taker look at the queue again. */
  wakeTakers(): void {
    for (const listener of this.#listeners) listener();
  }

  /** Its place in the queue. Jobs age alike, so it never changes; far priorities differ less than near ones. */
  #dueMs({ priority, queuedAtMs }: J): number {
    return queuedAtMs + (this.#maxWaitMs / 4) * (priority / (Math.abs(priority) + HALF_LEAD));
  }

  /** When it leaves the queue if nobody takes it. */
  #lastMs(job: J): number {
    return Math.min(this.#waitEndMs(job), job.deadlineMs ?? Number.POSITIVE_INFINITY);
  }

  #waitEndMs({ putBackAtMs, queuedAtMs }: J): number {
    return (putBackAtMs ?? queuedAtMs) + this.#maxWaitMs;
  }

  #waitedTooLong(job: J): ServingError {
    if (job.deadlineMs !== null && job.deadlineMs < this.#waitEndMs(job)) return job.deadlinePassed();
    const limit = this.#maxWaitMs / 1000;
    return new ServingError(
      'REQUEST_TIMEOUT',
      `The request waited ${limit} s for a free slot (option.predict_timeout)`,
    );
  }

  #removeFirst(count: number): J[] {
    const removed = this.#jobs.splice(0, count);
    for (const job of removed) this.#release(job);
    return removed;
  }

  #remove(job: J): void {
    const index = this.#jobs.indexOf(job);
    assert(index >= 0, 'a job that listens is in the queue');
    this.#jobs.splice(index, 1);
    this.#put(this.#fair.arranged(this.#jobs));
    this.#release(job);
  }

  #release(job: J): void {
    this.#forget.get(job)?.();
    this.#forget.delete(job);
  }
}

const isOfOneKey = (a: Job, b: Job): boolean => a.request.tenant?.id === b.request.tenant?.id;
