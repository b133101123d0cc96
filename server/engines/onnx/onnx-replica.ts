/**
 * One life of a replica of an ONNX model: a process, and the loop that gives it batches.
 *
 * In      jobs of the queue
 * Out     Replica; a ValueEvent and the finish a job
 * Limits  batchSize rows a batch (a request with more runs alone); the oldest waits at most maxBatchDelayMs for company
 * Errors  inputs that the model refuses are their own job's failure: a joined batch is run again job by job. A process that dies fails
 *         the jobs of its batch and ends run()
 */
import assert from 'node:assert/strict';
import { ServingError } from '../../../proto/errors.js';
import type { ModelConfig } from '../../config/config.js';
import { systemClock } from '../../jobs/clock.js';
import type { Taker } from '../../jobs/fair-share.js';
import type { JobQueue } from '../../jobs/job-queue.js';
import { WakeUp } from '../../jobs/wake-up.js';
import { finishWithoutText } from '../../requests/job-events.js';
import type { NamedTensor } from '../../requests/predict-request.js';
import type { Signature, TensorSpec } from '../../requests/signature.js';
import { ELEMENT_BYTES, elementsOf } from '../../requests/tensor-types.js';
import { NO_SAMPLE, type Replica, type ReplicaOptions, type ReplicaSample } from '../engine.js';
import { OnnxChild } from './onnx-child.js';
import type { OnnxJob } from './onnx-job.js';
import type { SessionOptions } from './onnx-messages.js';
import { joinRows, splitRows } from './tensor-batch.js';

export interface OnnxReplicaOptions extends Omit<ReplicaOptions, 'queue'> {
  config: ModelConfig;
  file: string;
  fileBytes: number;
  session: SessionOptions;
  signature: Signature;
  queue: JobQueue<OnnxJob>;
}

export class OnnxReplica implements Replica {
  readonly #options: OnnxReplicaOptions;
  readonly #wakeUp = new WakeUp(systemClock);
  #child: OnnxChild | null = null;
  #running: readonly OnnxJob[] = [];
  #draining = false;
  #death: ServingError | null = null;

  constructor(options: OnnxReplicaOptions) {
    this.#options = options;
  }

  async start(signal: AbortSignal): Promise<void> {
    const { config, file, fileBytes, hooks, session, signature } = this.#options;
    const limitMs = config.modelLoadingTimeoutSeconds * 1000;
    hooks.onLoading?.(0, fileBytes);
    this.#child = await OnnxChild.start(file, session, limitMs, signal);
    void this.#child.failed.then((error) => {
      this.#death = error;
      this.#wakeUp.notify();
    });
    await this.#warmUp(signature, limitMs);
    hooks.onLoading?.(fileBytes, fileBytes);
  }

  /** The first run of a session allocates: nobody's request pays for it. A model that refuses zeros is as warm as it gets. */
  async #warmUp(signature: Signature, limitMs: number): Promise<void> {
    assert(this.#child, 'warmed up when it is loaded');
    try {
      await this.#child.run(signature.inputs.map(zeros), null, limitMs);
    } catch (error) {
      if (ServingError.from(error).code !== 'BAD_REQUEST') throw error;
    }
  }

  async run(): Promise<void> {
    const { onIdle, queue } = this.#options;
    const stopListening = queue.onPush(() => this.#wakeUp.notify());
    try {
      for (;;) {
        const jobs = await this.#nextBatch();
        if (jobs === null) return;
        this.#running = jobs;
        onIdle(false);
        await this.#runBatch(jobs);
        this.#running = [];
        onIdle(true);
      }
    } finally {
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

  /** null: drained. @throws ServingError: the process is gone */
  async #nextBatch(): Promise<readonly OnnxJob[] | null> {
    const { config, mayStart, queue } = this.#options;
    for (;;) {
      if (this.#death) throw this.#death;
      queue.dropExpired();
      if (this.#draining) return null;
      const { length } = queue;
      const most = length === 0 ? 0 : Math.min(mayStart(), length);
      const count = batchLength(queue.waiting.slice(0, most), config.batchSize);
      const isFull = count > 0 && (count < most || rowsIn(queue.waiting.slice(0, count)) >= config.batchSize);
      const dueMs = count === 0 ? null : oldestMs(queue.waiting.slice(0, count)) + config.maxBatchDelayMs;
      const isDue = dueMs !== null && (config.batchSize === 1 || systemClock.nowMs() >= dueMs);
      if (isFull || isDue) return queue.take(count);
      await this.#wakeUp.wait(dueMs);
    }
  }

  async #runBatch(jobs: readonly OnnxJob[]): Promise<void> {
    const { hooks } = this.#options;
    const nowMs = systemClock.nowMs();
    for (const job of jobs) {
      job.startedAtMs = nowMs;
      hooks.onJobStarted?.(job);
      hooks.observer?.jobStarted(nowMs - job.queuedAtMs, 0);
    }
    const live = jobs.filter((job) => !job.cancelled);
    const apart = await this.#joined(live);
    if (apart !== null) {
      for (const [index, outputs] of apart.entries()) this.#answer(live[index]!, outputs);
      return;
    }
    for (const job of live) {
      if (job.cancelled) continue;
      try {
        this.#answer(job, await this.#ask(job.inputs, job.request.outputs, 1));
      } catch (error) {
        this.#fail(job, ServingError.from(error));
      }
    }
    if (this.#death) throw this.#death;
  }

  /** null: the jobs are to be run one by one. */
  async #joined(jobs: readonly OnnxJob[]): Promise<NamedTensor[][] | null> {
    const [first] = jobs;
    if (!first || jobs.length < 2) return null;
    try {
      const outputs = await this.#ask(
        joinRows(jobs.map(({ inputs }) => inputs)),
        first.request.outputs,
        jobs.length,
      );
      return splitRows(
        outputs,
        jobs.map(({ rows }) => rows),
      );
    } catch (error) {
      const { code } = ServingError.from(error);
      if (code === 'BAD_REQUEST') return null;
      for (const job of jobs) this.#fail(job, ServingError.from(error));
      throw error;
    }
  }

  async #ask(
    inputs: readonly NamedTensor[],
    outputs: readonly string[] | null,
    rows: number,
  ): Promise<readonly NamedTensor[]> {
    const { config, hooks } = this.#options;
    assert(this.#child, 'a replica is started before it runs');
    const ran = await this.#child.run(inputs, outputs, config.stepTimeoutSeconds * 1000);
    hooks.observer?.stepDone(rows, ran.us, 0, 0);
    return ran.outputs;
  }

  #answer(job: OnnxJob, outputs: readonly NamedTensor[]): void {
    if (job.stream.ended) return;
    job.stream.push({ kind: 'value', outputs });
    job.stream.push(finishWithoutText(0));
    job.stream.end();
    this.#leave(job, 'finished');
  }

  #fail(job: OnnxJob, error: ServingError): void {
    job.cancel(error);
    this.#leave(job, 'failed');
  }

  #leave(job: OnnxJob, why: 'finished' | 'failed'): void {
    const { id: jobId, request } = job;
    this.#options.hooks.onSlotFreed?.({ jobId, requestId: request.requestId, slot: 0, why, newTokens: 0 });
  }
}

/** One of whatever varies; strings are empty. */
function zeros({ name, shape, type }: TensorSpec): NamedTensor {
  const one = (shape ?? [1]).map((axis) => (axis === -1 ? 1 : axis));
  return {
    name,
    type,
    shape: one,
    bytes: new Uint8Array(elementsOf(name, one) * (ELEMENT_BYTES[type] ?? 4)),
  };
}

const rowsIn = (jobs: readonly OnnxJob[]): number => jobs.reduce((sum, { rows }) => sum + rows, 0);

const oldestMs = (jobs: readonly OnnxJob[]): number =>
  jobs.reduce((oldest, { queuedAtMs }) => Math.min(oldest, queuedAtMs), Number.POSITIVE_INFINITY);

/** Jobs from the front of the queue that may run together: of one key, and of batchSize rows at most. */
export function batchLength(
  waiting: readonly Pick<OnnxJob, 'batchKey' | 'rows'>[],
  batchSize: number,
): number {
  const [first] = waiting;
  if (!first) return 0;
  if (first.batchKey === null) return 1;
  let rows = 0;
  let count = 0;
  for (const job of waiting) {
    rows += job.rows;
    if (count > 0 && (job.batchKey !== first.batchKey || rows > batchSize)) break;
    count++;
  }
  return count;
}
