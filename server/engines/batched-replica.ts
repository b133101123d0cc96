/**
 * One life of a replica that runs whole requests, several of them together: a process, and the loop that gives it batches.
 *
 * In      jobs of the queue; `runJobs` of the engine, which ends each of them, or tells how
 * Out     Replica
 * Limits  batchSize rows a batch (a request with more runs alone); the oldest waits at most maxBatchDelayMs for company
 * Errors  a process that dies fails the jobs of its batch and ends run()
 */
import assert from 'node:assert/strict';
import { ServingError } from '../../proto/errors.js';
import type { ModelConfig } from '../config/config.js';
import { systemClock } from '../jobs/clock.js';
import type { Taker } from '../jobs/fair-share.js';
import type { Job } from '../jobs/job.js';
import type { JobQueue } from '../jobs/job-queue.js';
import { WakeUp } from '../jobs/wake-up.js';
import { finishWithoutText } from '../requests/job-events.js';
import { NO_SAMPLE, type Replica, type ReplicaOptions, type ReplicaSample } from './engine.js';

/** A job that may run beside others. */
export interface BatchedJob extends Job {
  /** Goes with jobs of the same key; null: alone. */
  readonly batchKey: string | null;
  /** How many of batchSize it takes. */
  readonly rows: number;
}

export interface BatchedReplicaOptions<J extends BatchedJob> extends Omit<ReplicaOptions, 'queue'> {
  config: ModelConfig;
  queue: JobQueue<J>;
}

/** The process of a replica. */
export interface BatchedChild {
  readonly pid: number | undefined;
  readonly failed: Promise<ServingError>;
  stop(): Promise<void>;
}

/** What is left to do for a batch that its process is done with: told when the process has its next one, if that waits already. */
export type Answers = () => void;
/** Nothing is left: the jobs have ended. */
export const ALL_TOLD: Answers = () => {};

export abstract class BatchedReplica<J extends BatchedJob, C extends BatchedChild> implements Replica {
  readonly #options: BatchedReplicaOptions<J>;
  readonly #wakeUp = new WakeUp(systemClock);
  #child: C | null = null;
  #running: readonly J[] = [];
  #draining = false;
  #death: ServingError | null = null;
  #hasWorked = false;
  /** When the jobs that wait run without more company; null: none waits. */
  #dueMs: number | null = null;

  constructor(options: BatchedReplicaOptions<J>) {
    this.#options = options;
  }

  /** Starts the process and makes it ready. @throws ServingError: none is left */
  protected abstract launch(signal: AbortSignal): Promise<C>;
  /**
   * Gives the jobs to the process before it returns; answers each or fails it, now or by what it resolves with.
   *
   * @throws ServingError: the process is gone
   */
  protected abstract runJobs(jobs: readonly J[], child: C): Promise<Answers>;

  async start(signal: AbortSignal): Promise<void> {
    this.#child = await this.launch(signal);
    void this.#child.failed.then((error) => {
      this.#death = error;
      this.#wakeUp.notify();
    });
  }

  async run(): Promise<void> {
    const { hooks, onIdle, queue } = this.#options;
    assert(this.#child, 'a replica is started before it runs');
    const stopListening = queue.onPush(() => this.#wakeUp.notify());
    let answers = ALL_TOLD;
    try {
      for (;;) {
        const waiting = this.#readyBatch();
        if (waiting === null) {
          answers();
          answers = ALL_TOLD;
        }
        const jobs = waiting ?? (await this.#nextBatch());
        if (jobs === null) return;
        this.#running = jobs;
        onIdle(false);
        const nowMs = systemClock.nowMs();
        for (const job of jobs) {
          job.startedAtMs = nowMs;
          hooks.onJobStarted?.(job);
          hooks.observer?.jobStarted(nowMs - job.queuedAtMs, 0);
        }
        const live = jobs.filter((job) => !job.cancelled);
        const running = live.length > 0 ? this.runJobs(live, this.#child) : null;
        // While the process is at work: telling 32 answers takes as long as a small model takes for them.
        answers();
        answers = ALL_TOLD;
        try {
          answers = (await running) ?? ALL_TOLD;
        } catch (error) {
          for (const job of live) this.fail(job, ServingError.from(error));
          throw error;
        }
        this.#running = [];
        this.#hasWorked = true;
        onIdle(true);
      }
    } finally {
      answers();
      stopListening();
    }
  }

  drain(): void {
    this.#draining = true;
    this.#wakeUp.notify();
  }

  async stop(): Promise<void> {
    this.drain();
    await this.#child?.stop();
  }

  get hasWorked(): boolean {
    return this.#hasWorked;
  }

  get load(): Taker {
    const running = this.#running.length;
    const isFree = running === 0 && this.#child !== null && !this.#draining;
    return { running, room: isFree ? this.#options.config.batchSize : 0 };
  }

  get pids(): readonly (number | undefined)[] {
    return this.#child ? [this.#child.pid] : [];
  }

  sample(): ReplicaSample {
    const { batchSize } = this.#options.config;
    return { ...NO_SAMPLE, sequencesRunning: this.#running.length, slots: batchSize };
  }

  /** Its events have been pushed. */
  protected finish(job: J): void {
    if (!job.stream.ended) {
      job.stream.push(finishWithoutText(0));
      job.stream.end();
    }
    this.#leave(job, 'finished');
  }

  protected fail(job: J, error: ServingError): void {
    job.cancel(error);
    this.#leave(job, 'failed');
  }

  /** null: drained. @throws ServingError: the process is gone */
  async #nextBatch(): Promise<readonly J[] | null> {
    for (;;) {
      if (this.#death) throw this.#death;
      if (this.#draining) return null;
      const jobs = this.#readyBatch();
      if (jobs !== null) return jobs;
      await this.#wakeUp.wait(this.#dueMs);
    }
  }

  /** null: none is full, and none has waited long enough; `#dueMs` says when one will have. */
  #readyBatch(): readonly J[] | null {
    const { config, mayStart, queue } = this.#options;
    this.#dueMs = null;
    if (this.#death || this.#draining) return null;
    queue.dropExpired();
    const { length, waiting } = queue;
    const most = length === 0 ? 0 : Math.min(mayStart(), length);
    const { count, oldestMs, rows } = nextBatch(waiting, most, config.batchSize);
    if (count === 0) return null;
    this.#dueMs = oldestMs + config.maxBatchDelayMs;
    const isFull = count < most || rows >= config.batchSize;
    const isDue = config.batchSize === 1 || systemClock.nowMs() >= this.#dueMs;
    if (isFull || isDue) return queue.take(count);
    const preferred = preferredSize(rows, config.repository?.preferredRows ?? []);
    const exact = preferred === null ? null : nextBatch(waiting, most, preferred);
    return exact?.rows === preferred ? queue.take(exact!.count) : null;
  }

  #leave(job: J, why: 'finished' | 'failed'): void {
    const { id: jobId, request } = job;
    this.#options.hooks.onSlotFreed?.({ jobId, requestId: request.requestId, slot: 0, why, newTokens: 0 });
  }
}

/** The largest that there are rows for; null: none. */
const preferredSize = (rows: number, sizes: readonly number[]): number | null =>
  sizes.reduce<number | null>((best, size) => (size <= rows && size > (best ?? 0) ? size : best), null);

interface NextBatch {
  count: number;
  rows: number;
  /** When the first of them came; Infinity: there is none. */
  oldestMs: number;
}

/**
 * Jobs from the front of the queue that may run together: of one key, and of batchSize rows at most. In one pass, as it is asked with every
 * job that comes.
 *
 * @param most of the waiting ones
 */
export function nextBatch(
  waiting: readonly Pick<BatchedJob, 'batchKey' | 'rows' | 'queuedAtMs'>[],
  most: number,
  batchSize: number,
): NextBatch {
  const batch: NextBatch = { count: 0, rows: 0, oldestMs: Number.POSITIVE_INFINITY };
  const key = waiting[0]?.batchKey ?? null;
  for (let at = 0; at < most; at++) {
    const { batchKey, queuedAtMs, rows } = waiting[at]!;
    if (at > 0 && (key === null || batchKey !== key || batch.rows + rows > batchSize)) break;
    batch.count++;
    batch.rows += rows;
    batch.oldestMs = Math.min(batch.oldestMs, queuedAtMs);
  }
  return batch;
}
