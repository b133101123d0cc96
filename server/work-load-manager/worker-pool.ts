/**
 * The worker pool of one model: the door to its queue, from which its groups (pool-groups.ts) pull.
 *
 * In      a prepared model; requests
 * Out     accepted jobs
 * Limits  job_queue_size jobs that no group has room for; what the engine accepts
 * Errors  MODEL_NOT_READY, NO_WORKERS, QUEUE_FULL, REQUEST_TIMEOUT, CANCELLED, and what the engine refuses: nothing reached a worker
 *
 * The pool serves from its start until it is closed, or has failed: then what runs ends in peace, what waits is refused.
 */
import type { Logger } from 'pino';
import { ServingError } from '../../proto/errors.js';
import type { ModelConfig } from '../config/config.js';
import type { FittedModel, PreparedModel, ReplicaHooks } from '../engines/engine.js';
import { systemClock } from '../jobs/clock.js';
import { clientLeft, type Job } from '../jobs/job.js';
import { JobQueue } from '../jobs/job-queue.js';
import type { MemoryLedger } from '../machine/memory-ledger.js';
import type { AnswerFormat } from '../requests/answer-format.js';
import type { ModelTokens } from '../requests/model-tokens.js';
import type { Accepted, JobRequest, Task } from '../requests/service.js';
import type { Signature } from '../requests/signature.js';
import type { TextLabels } from '../requests/text-labels.js';
import { aheadOf } from './may-start.js';
import { PoolGroups } from './pool-groups.js';

export interface WorkerPoolOptions {
  /** The model's name, and its version where it has one. */
  id: string;
  config: ModelConfig;
  model: PreparedModel;
  ledger: MemoryLedger;
  /** Groups of other models run on this machine, or will; default: they do not. */
  hasNeighbours?: () => boolean;
  /** Threads of the groups of other models; default: none. */
  otherThreads?: () => number;
  logger: Logger;
  /** The model has failed for good. */
  onFailed?: () => void;
  hooks?: ReplicaHooks;
}

export class WorkerPool {
  readonly groups: PoolGroups;
  readonly #options: WorkerPoolOptions;
  readonly #fitted: FittedModel;
  readonly #queue: JobQueue;
  readonly #jobs = new Set<Job>();
  #closed = false;
  /** Who waits for the groups to be as they shall. */
  readonly #settling: (() => void)[] = [];
  /** Requests on their way to the queue. */
  #accepting = 0;
  #nextJob = 1;

  /** @throws ServingError OUT_OF_MEMORY */
  constructor(options: WorkerPoolOptions) {
    const { config, id, ledger, model } = options;
    this.#options = options;
    const maxWaitMs = config.predictTimeoutSeconds * 1000;
    this.#queue = new JobQueue(id, config.jobQueueSize, maxWaitMs, systemClock.nowMs);
    this.#fitted = model.fit(ledger.freeBytes());
    this.groups = new PoolGroups({
      ...options,
      model: this.#fitted,
      worldSize: model.worldSize,
      queue: this.#queue,
      onFailed: () => {
        this.#queue.failAll(this.#notReady());
        options.onFailed?.();
      },
      onChange: () => this.#wakeSettling(),
    });
  }

  get worldSize(): number {
    return this.#options.model.worldSize;
  }

  /** What its groups compute on. */
  get device(): string {
    return this.#options.model.device ?? 'cpu';
  }

  get task(): Task {
    return this.#options.model.task;
  }

  /** null: it knows none. */
  get tokens(): ModelTokens | null {
    return this.#fitted.tokens ?? null;
  }

  get answerFormat(): AnswerFormat | null {
    return this.#options.model.answerFormat ?? null;
  }

  get labels(): TextLabels | null {
    return this.#options.model.labels ?? null;
  }

  get signature(): Signature | null {
    return this.#options.model.signature;
  }

  get contextLength(): number {
    return this.#fitted.contextLength;
  }

  get waitingJobs(): number {
    return this.#queue.length + aheadOf(this.groups.running);
  }

  get healthy(): boolean {
    const { failure, minGroups, running } = this.groups;
    return failure === null && running.filter((group) => group.isResponsive).length >= minGroups;
  }

  /** Resolves when minGroups run. @throws ServingError of the first that does not start */
  start(): Promise<void> {
    return this.groups.start();
  }

  /** Resolves when min … max groups run, and no other one comes or goes. @throws ServingError: they cannot */
  async settled(): Promise<void> {
    for (;;) {
      const { all, failure, minGroups, mostGroups, refusal, running } = this.groups;
      const count = running.length;
      if (count >= minGroups && count <= mostGroups && all.length === count) return;
      if (this.#closed) throw shuttingDown();
      const broken = failure ?? refusal;
      if (broken) throw broken;
      await new Promise<void>((resolve) => {
        this.#settling.push(resolve);
      });
    }
  }

  #wakeSettling(): void {
    for (const wake of this.#settling.splice(0)) wake();
  }

  /** @throws ServingError OUT_OF_MEMORY: nothing has changed */
  scale(minGroups: number, maxGroups: number): void {
    this.groups.setLimits(minGroups, maxGroups);
    if (this.groups.mostGroups === 0) this.#queue.failAll(this.#noWorkers());
  }

  /** @throws ServingError */
  async submit(given: JobRequest, signal: AbortSignal): Promise<Accepted> {
    const limitMs = this.#options.config.requestTimeoutSeconds * 1000;
    const request = { ...given, timeoutMs: Math.min(given.timeoutMs ?? limitMs, limitMs) };
    const receivedAtMs = systemClock.nowMs();
    this.#checkOpen(this.#accepting);
    this.#accepting++;
    let accepted: Awaited<ReturnType<FittedModel['accept']>>;
    try {
      accepted = await this.#fitted.accept(request, { jobId: this.#nextJob++, receivedAtMs, signal });
    } finally {
      this.#accepting--;
    }
    if (signal.aborted) throw clientLeft();
    const { job, promptTokens } = accepted;
    if (job.deadlineMs !== null && job.queuedAtMs >= job.deadlineMs) throw job.deadlinePassed();
    this.#enqueue(job, signal);
    return { promptTokens, events: job.stream, times: job };
  }

  /** Resolves when no accepted job is left. */
  async drain(): Promise<void> {
    while (this.#jobs.size > 0) await Promise.all([...this.#jobs].map((job) => job.ended));
  }

  /** Ends every job that is left, then the workers. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#wakeSettling();
    for (const job of this.#jobs) job.cancel(shuttingDown());
    await this.groups.stop();
    await this.#options.model.close();
  }

  #enqueue(job: Job, signal: AbortSignal): void {
    this.#queue.push(job, this.#checkOpen(0));
    this.#jobs.add(job);
    const onAbort = (): void => job.cancel(clientLeft());
    signal.addEventListener('abort', onAbort, { once: true });
    const passed = (): void => job.cancel(job.deadlinePassed());
    const cancelDeadline = job.deadlineMs === null ? null : systemClock.at(job.deadlineMs, passed);
    void job.ended.then(() => {
      cancelDeadline?.();
      signal.removeEventListener('abort', onAbort);
      this.#jobs.delete(job);
      this.#observeEnd(job);
    });
    this.groups.scale();
  }

  #observeEnd(job: Job): void {
    const { ending } = job.stream;
    if (!ending) return;
    const durationMs = systemClock.nowMs() - job.receivedAtMs;
    this.#options.hooks?.observer?.jobEnded(
      ending instanceof ServingError
        ? { reason: ending.code, durationMs, newTokens: 0 }
        : { reason: ending.reason, durationMs, newTokens: ending.newTokens },
    );
  }

  /**
   * @param more jobs on their way to the queue
   * @returns jobs that may wait
   * @throws ServingError
   */
  #checkOpen(more: number): number {
    if (this.#closed) throw shuttingDown();
    if (this.groups.failure) throw this.#notReady();
    if (this.groups.mostGroups === 0) throw this.#noWorkers();
    const limit = this.#queueLimit();
    try {
      this.#queue.checkRoom(limit - more);
    } catch (error) {
      this.groups.scale();
      throw error;
    }
    return limit;
  }

  /**
   * DJLServing refuses what would take the queue's last place while every worker is busy. Jobs that a group has room for are as
   * good as started; those that went ahead wait.
   */
  #queueLimit(): number {
    const { capacity } = this.#queue;
    const { room, running } = this.groups;
    return running.length > 0 ? capacity - 1 + room - aheadOf(running) : capacity;
  }

  #notReady(): ServingError {
    return new ServingError('MODEL_NOT_READY', `Model is not ready: ${this.#options.id}`);
  }

  #noWorkers(): ServingError {
    return new ServingError('NO_WORKERS', `All model workers has been shutdown: ${this.#options.id}`);
  }
}

const shuttingDown = (): ServingError => new ServingError('SHUTTING_DOWN', 'The server is being stopped');
