/**
 * One life of a replica that runs whole requests, several of them together: a process, and the loop that gives it batches.
 *
 * In      jobs of the queue; `runJobs` of the engine, which ends each of them, or tells how
 * Out     Replica
 * Limits  batchSize rows a batch (a request with more runs alone); the oldest waits at most maxBatchDelayMs for company
 * Errors  a process that dies ends run(). What it worked at waits for the next one, if nothing of its answer was told, and runs alone
 *         then; what was in more than request_retries deaths, or in one after a hang, ends with the error
 *
 * Ahead: where an engine says so, the process is given its next batch while it works at one, so that it does not stand still in between.
 * Those jobs wait as those of the queue do, and are counted so: they start when nothing is before them, and a death before that is
 * none of theirs. But nobody goes before them any more. So a batch goes ahead only if
 *   - it is full: one that is not gets company while it waits;
 *   - the last one took at most AHEAD_MS: what comes meanwhile, of another key or a better priority, waits so much longer and no more, and
 *     the stand-still is nothing beside a longer one;
 *   - no other replica has room: it would begin at once there;
 *   - nothing of it, or of what the process works at, was in a death: such a one has the process to itself, so that the next death is
 *     its own beyond doubt; and what the process works at is no batch in parts, each of which would wait for all of the other one.
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

/** After a batch that took longer none goes ahead. */
const AHEAD_MS = 100;

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

interface Batch<J> {
  readonly jobs: readonly J[];
  /** Nothing is before it in the process. */
  hasBegun: boolean;
  begunAtMs: number;
  /** Its jobs run one by one. */
  isApart: boolean;
}

export abstract class BatchedReplica<J extends BatchedJob, C extends BatchedChild> implements Replica {
  /** Its process may be given a batch while it works at one: it begins none before it has answered the other. */
  protected readonly runsAhead: boolean = false;
  readonly #options: BatchedReplicaOptions<J>;
  readonly #wakeUp = new WakeUp(systemClock);
  #child: C | null = null;
  /** Those that the process has, the one that goes ahead last. */
  readonly #batches: Batch<J>[] = [];
  /** What the process works at: what it dies of is theirs. */
  #atWork: readonly J[] = [];
  /** What the batches that the process is done with are answered with. */
  readonly #answers: Answers[] = [];
  #lastMs = Number.POSITIVE_INFINITY;
  #isIdle = true;
  #diedWorking = false;
  #draining = false;
  #death: ServingError | null = null;
  /** What a batch ended with, and all of this life. */
  #failure: { error: unknown } | null = null;
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
    const { queue } = this.#options;
    assert(this.#child, 'a replica is started before it runs');
    const stopListening = queue.onPush(() => this.#wakeUp.notify());
    try {
      for (;;) {
        for (let jobs = this.#nextBatch(); jobs !== null; jobs = this.#nextBatch())
          this.#give(jobs, this.#child);
        // Now that the process is at work: telling 32 answers takes as long as a small model takes for them.
        this.#tellAnswers();
        this.#tellIdle();
        if (this.#failure) throw this.#failure.error;
        const isDone = this.#batches.length === 0;
        if (isDone && this.#death) throw this.#death;
        if (isDone && this.#draining) return;
        await this.#wakeUp.wait(isDone ? this.#dueMs : null);
      }
    } catch (error) {
      this.#lose(ServingError.from(error));
      throw error;
    } finally {
      this.#tellAnswers();
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
    const running = this.#count(() => true);
    const isFree = running === 0 && this.#child !== null && !this.#draining;
    const room = isFree ? this.#options.config.batchSize : 0;
    return { running, room, ahead: this.#count(({ hasBegun }) => !hasBegun) };
  }

  get pids(): readonly (number | undefined)[] {
    return this.#child ? [this.#child.pid] : [];
  }

  sample(): ReplicaSample {
    const { batchSize } = this.#options.config;
    return { ...NO_SAMPLE, sequencesRunning: this.#count(({ hasBegun }) => hasBegun), slots: batchSize };
  }

  /**
   * To be called where runsAhead, or where a batch is run in parts, with what the process has begun: nothing is before it any more.
   *
   * @param jobs a batch, or some of its jobs
   */
  protected begins(jobs: readonly J[]): void {
    this.#atWork = jobs;
    const batch = this.#batchOf(jobs);
    if (batch === undefined || batch.hasBegun) return;
    batch.hasBegun = true;
    batch.begunAtMs = systemClock.nowMs();
    const { observer, onJobStarted } = this.#options.hooks;
    for (const job of batch.jobs) {
      if (job.stream.ended) continue;
      const isFirst = job.startedAtMs === null;
      job.startedAtMs = batch.begunAtMs;
      onJobStarted?.(job);
      if (isFirst) observer?.jobStarted(batch.begunAtMs - job.queuedAtMs, 0);
      else observer?.jobResumed?.();
    }
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
    const batch = this.#batchOf(jobs);
    if (batch !== undefined) batch.isApart = jobs.length > 1;
    for (const job of jobs) if (!job.stream.ended) await run(job);
  }

  #give(jobs: readonly J[], child: C): void {
    const batch: Batch<J> = { jobs, hasBegun: false, begunAtMs: 0, isApart: false };
    this.#batches.push(batch);
    if (this.#batches.length === 1) this.begins(jobs);
    this.runJobs(jobs, child).then(
      (answers) => this.#done(batch, answers),
      (error: unknown) => {
        this.#failure ??= { error };
        this.#wakeUp.notify();
      },
    );
  }

  #done(batch: Batch<J>, answers: Answers): void {
    // All of this life is over already.
    if (!this.#batches.includes(batch)) return;
    this.#hasWorked = true;
    this.#lastMs = systemClock.nowMs() - batch.begunAtMs;
    this.#answers.push(answers);
    this.#batches.splice(this.#batches.indexOf(batch), 1);
    const [next] = this.#batches;
    if (next === undefined) this.#atWork = [];
    else if (!next.hasBegun) this.begins(next.jobs);
    this.#wakeUp.notify();
  }

  #batchOf([first]: readonly J[]): Batch<J> | undefined {
    return this.#batches.find(({ jobs }) => first !== undefined && jobs.includes(first));
  }

  #tellAnswers(): void {
    for (const tell of this.#answers.splice(0)) tell();
  }

  #tellIdle(): void {
    const isIdle = this.#batches.length === 0;
    if (isIdle === this.#isIdle) return;
    this.#isIdle = isIdle;
    this.#options.onIdle(isIdle);
  }

  #count(which: (batch: Batch<J>) => boolean): number {
    return this.#batches.reduce((sum, batch) => sum + (which(batch) ? batch.jobs.length : 0), 0);
  }

  /** The process is gone, with what it had. */
  #lose(error: ServingError): void {
    this.#diedWorking = this.#atWork.length > 0;
    const back: J[] = [];
    for (const { hasBegun, jobs } of this.#batches.splice(0)) {
      for (const job of jobs) {
        if (job.stream.ended) continue;
        if (this.#survives(job, error)) {
          if (hasBegun) this.#leave(job, 'lost');
          back.push(job);
        } else this.fail(job, this.#tooOften(job, error));
      }
    }
    this.#atWork = [];
    this.#options.queue.putBack(back);
  }

  #survives(job: J, { code }: ServingError): boolean {
    if (this.#atWork.includes(job)) {
      job.deaths++;
      // A process that hangs holds up the others for all of its deadline: that is not done three times.
      if (code === 'STEP_TIMEOUT') job.deaths = Math.max(job.deaths, this.#retries);
    }
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

  /** null: the process has what it may have now. */
  #nextBatch(): readonly J[] | null {
    if (this.#batches.length === 0) return this.#readyBatch();
    return this.#mayGoAhead() ? this.#fullBatch() : null;
  }

  #mayGoAhead(): boolean {
    const { othersHaveRoom } = this.#options;
    if (!this.runsAhead || this.#batches.length > 1 || this.#lastMs > AHEAD_MS) return false;
    const { isApart, jobs } = this.#batches[0]!;
    const isSure = !isApart && jobs.every(({ deaths }) => deaths === 0);
    return isSure && this.#failure === null && othersHaveRoom?.() !== true;
  }

  /** null: none that goes ahead. */
  #fullBatch(): readonly J[] | null {
    const { batch, isFull } = this.#waitingBatch();
    const { queue } = this.#options;
    return isFull && queue.waiting[0]!.deaths === 0 ? queue.take(batch.count) : null;
  }

  /** null: none is full, and none has waited long enough; `#dueMs` says when one will have. */
  #readyBatch(): readonly J[] | null {
    const { config, queue } = this.#options;
    this.#dueMs = null;
    const { batch, isFull, most } = this.#waitingBatch();
    const { count, oldestMs, rows } = batch;
    if (count === 0) return null;
    this.#dueMs = oldestMs + config.maxBatchDelayMs;
    const isDue = config.batchSize === 1 || systemClock.nowMs() >= this.#dueMs;
    if (isFull || isDue) return queue.take(count);
    const preferred = preferredSize(rows, config.repository?.preferredRows ?? []);
    const exact = preferred === null ? null : nextBatch(queue.waiting, most, preferred);
    return exact?.rows === preferred ? queue.take(exact!.count) : null;
  }

  /** It has no job, if none may be taken. @returns most: of the queue that may be taken */
  #waitingBatch(): { batch: NextBatch; isFull: boolean; most: number } {
    const { config, mayStart, queue } = this.#options;
    const mayTake = this.#death === null && !this.#draining;
    if (mayTake) queue.dropExpired();
    const { length, waiting } = queue;
    const most = length === 0 || !mayTake ? 0 : Math.min(mayStart(), length);
    const batch = nextBatch(waiting, most, config.batchSize);
    const { count, rows } = batch;
    const isFull = count > 0 && (count < most || rows >= config.batchSize || waiting[0]!.deaths > 0);
    return { batch, isFull, most };
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
