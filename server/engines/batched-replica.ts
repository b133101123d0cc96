/**
 * One life of a replica that runs whole requests, several of them together: a process, and the loop that gives it batches.
 *
 * In      jobs of the queue; `runJobs` of the engine, which ends each of them, or tells how
 * Out     Replica
 * Limits  batchSize rows a batch (a request with more runs alone); the oldest waits at most maxBatchDelayMs for company
 * Errors  a process that dies ends run(). What it ran waits for the next one, if nothing of its answer was told, and runs alone then;
 *         what was in more than request_retries deaths (a hang counts for two) ends with the error
 */
import assert from 'node:assert/strict';
import { ServingError } from '../../proto/errors.js';
import type { ModelConfig } from '../config/config.js';
import { systemClock } from '../jobs/clock.js';
import type { Taker } from '../jobs/fair-share.js';
import type { Job } from '../jobs/job.js';
import type { JobQueue } from '../jobs/job-queue.js';
import { WakeUp } from '../jobs/wake-up.js';
import type { SlotFreed } from '../jobs/work-observer.js';
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

/** A process that hangs holds up the others for all of its deadline: that is not done three times. */
const DEATHS_OF_A_HANG = 2;

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
  /** Those of them that its process has: what it dies of is theirs. */
  #inFlight: readonly J[] = [];
  #diedWorking = false;
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
          const isFirst = job.startedAtMs === null;
          job.startedAtMs = nowMs;
          hooks.onJobStarted?.(job);
          if (isFirst) hooks.observer?.jobStarted(nowMs - job.queuedAtMs, 0);
          else hooks.observer?.jobResumed?.();
        }
        const live = jobs.filter((job) => !job.cancelled);
        this.#inFlight = live;
        const running = live.length > 0 ? this.runJobs(live, this.#child) : null;
        // While the process is at work: telling 32 answers takes as long as a small model takes for them.
        answers();
        answers = ALL_TOLD;
        try {
          answers = (await running) ?? ALL_TOLD;
        } catch (error) {
          this.#lose(live, ServingError.from(error));
          throw error;
        }
        this.#inFlight = [];
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

  /** A batch was in it: whatever else it may have been, the process had started well. */
  get deathsOfRequests(): number {
    return this.#diedWorking ? 1 : 0;
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

  /** A batch that failed is tried job by job: only what is wrong itself fails. */
  protected get triesAgain(): boolean {
    return this.#options.config.requestRetries > 0;
  }

  /** One after the other. @param run answers one or fails it. @throws ServingError: the process is gone */
  protected async runApart(jobs: readonly J[], run: (job: J) => Promise<void>): Promise<void> {
    for (const job of jobs) {
      if (job.stream.ended) continue;
      this.#inFlight = [job];
      await run(job);
    }
  }

  /** The process is gone, with what it ran. */
  #lose(live: readonly J[], error: ServingError): void {
    this.#diedWorking = this.#inFlight.length > 0;
    const back: J[] = [];
    for (const job of live) {
      if (job.stream.ended) continue;
      if (this.#survives(job, error)) {
        this.#leave(job, 'lost');
        back.push(job);
      } else this.fail(job, this.#tooOften(job, error));
    }
    this.#options.queue.putBack(back);
  }

  #survives(job: J, { code }: ServingError): boolean {
    if (this.#inFlight.includes(job)) job.deaths += code === 'STEP_TIMEOUT' ? DEATHS_OF_A_HANG : 1;
    // Half an answer has no second half anywhere else.
    return code !== 'SHUTTING_DOWN' && !job.stream.begun && job.deaths <= this.#retries;
  }

  get #retries(): number {
    return this.#options.config.requestRetries;
  }

  #tooOften({ deaths }: J, error: ServingError): ServingError {
    const retries = this.#retries;
    if (retries === 0 || deaths <= retries) return error;
    const message = `${error.message}; it did so again when the request ran alone, which is not tried any more (option.request_retries)`;
    return new ServingError(error.code, message, { cause: error });
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
    const isFull = count < most || rows >= config.batchSize || waiting[0]!.deaths > 0;
    const isDue = config.batchSize === 1 || systemClock.nowMs() >= this.#dueMs;
    if (isFull || isDue) return queue.take(count);
    const preferred = preferredSize(rows, config.repository?.preferredRows ?? []);
    const exact = preferred === null ? null : nextBatch(waiting, most, preferred);
    return exact?.rows === preferred ? queue.take(exact!.count) : null;
  }

  #leave(job: J, why: SlotFreed['why']): void {
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
 * Jobs from the front of the queue that may run together: of one key, and of batchSize rows at most; one that was in a death runs alone.
 * In one pass, as it is asked with every job that comes.
 *
 * @param most of the waiting ones
 */
export function nextBatch(
  waiting: readonly Pick<BatchedJob, 'batchKey' | 'deaths' | 'rows' | 'queuedAtMs'>[],
  most: number,
  batchSize: number,
): NextBatch {
  const batch: NextBatch = { count: 0, rows: 0, oldestMs: Number.POSITIVE_INFINITY };
  const [first] = waiting;
  const key = first === undefined || first.deaths > 0 ? null : first.batchKey;
  for (let at = 0; at < most; at++) {
    const { batchKey, deaths, queuedAtMs, rows } = waiting[at]!;
    const fits = key !== null && batchKey === key && deaths === 0 && batch.rows + rows <= batchSize;
    if (at > 0 && !fits) break;
    batch.count++;
    batch.rows += rows;
    batch.oldestMs = Math.min(batch.oldestMs, queuedAtMs);
  }
  return batch;
}
