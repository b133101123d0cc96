/**
 * One life of a replica of a handler: a process, and batches of whole requests.
 *
 * In      jobs of the queue
 * Out     Replica; a HeadEvent, ChunkEvents and the finish a job
 * Limits  batched-replica.ts; MAX_PIECES and MAX_STREAM_BYTES a streamed answer
 * Errors  a throw, HANDLER_FAILED, and a PredictionException: of a batch of several each is run again alone, if nothing of its answer was
 *         told, so that only what is wrong itself fails. A process that dies or hangs: batched-replica.ts
 */
import { ServingError } from '../../../proto/errors.js';
import { ALL_TOLD, type Answers, BatchedReplica, type BatchedReplicaOptions } from '../batched-replica.js';
import type { BoundModel } from './bound-model.js';
import { HandlerChild } from './handler-child.js';
import { type HandlerJob, MAX_PIECES } from './handler-job.js';
import type { FromHandler, HandlerAnswer, HandlerSetup } from './handler-messages.js';

const MAX_STREAM_BYTES = 256 * 1024 * 1024;

export interface HandlerReplicaOptions extends BatchedReplicaOptions<HandlerJob> {
  setup: HandlerSetup;
  /** What its code may ask; null: nothing. */
  bound: BoundModel | null;
}

export class HandlerReplica extends BatchedReplica<HandlerJob, HandlerChild> {
  readonly #options: HandlerReplicaOptions;

  constructor(options: HandlerReplicaOptions) {
    super(options);
    this.#options = options;
  }

  protected async launch(signal: AbortSignal): Promise<HandlerChild> {
    const { bound, config, hooks, logger, setup } = this.#options;
    const child = await HandlerChild.start(
      setup,
      bound,
      config.modelLoadingTimeoutSeconds * 1000,
      logger,
      signal,
    );
    child.onMetric = (line) => hooks.observer?.metricTold?.(line);
    return child;
  }

  protected async runJobs(jobs: readonly HandlerJob[], child: HandlerChild): Promise<Answers> {
    const { config, hooks } = this.#options;
    const id = child.nextId;
    const watching = new AbortController();
    jobs.forEach((job, index) => {
      const onLeft = (): void => child.left(id, index);
      job.signal.addEventListener('abort', onLeft, { once: true, signal: watching.signal });
    });
    const requests = jobs.map(({ request: { content, properties, requestId } }) => ({
      content,
      properties,
      requestId,
    }));
    try {
      const { answers, us } = await child.run(
        requests,
        config.stepTimeoutSeconds * 1000,
        () => this.begins(jobs),
        (piece) => this.#piece(jobs[piece.index], piece),
      );
      hooks.observer?.stepDone(jobs.length, us, 0, 0);
      // TorchServe's own of every batch.
      for (const name of ['HandlerTime', 'PredictionTime']) {
        const of = `ModelName:${config.name},Level:Model`;
        hooks.observer?.metricTold?.(`${name}.Milliseconds:${us / 1000}|#${of}|type:gauge`);
      }
      const isForAll = (answer: HandlerAnswer): boolean =>
        this.triesAgain && answer.kind === 'whole' && answer.ofBatch === true;
      for (const [index, job] of jobs.entries())
        if (!isForAll(answers[index]!)) this.#answer(job, answers[index]!);
      if (answers.some(isForAll)) await this.#apart(jobs, child);
    } catch (error) {
      const failure = ServingError.from(error);
      if (failure.code !== 'HANDLER_FAILED') throw failure;
      const isOne = jobs.length === 1 || !this.triesAgain;
      for (const job of jobs) if (isOne || job.stream.begun) this.fail(job, failure);
      if (!isOne) await this.#apart(jobs, child);
    } finally {
      watching.abort();
    }
    return ALL_TOLD;
  }

  #apart(jobs: readonly HandlerJob[], child: HandlerChild): Promise<void> {
    return this.runApart(jobs, async (job) => {
      await this.runJobs([job], child);
    });
  }

  #piece(job: HandlerJob | undefined, piece: Extract<FromHandler, { kind: 'head' | 'chunk' }>): void {
    if (job === undefined || job.stream.ended) return;
    job.pieces += 1;
    if (piece.kind === 'head') {
      job.stream.push({ kind: 'head', ...piece.head });
      return;
    }
    job.bytes += piece.bytes.byteLength;
    // The finish must have room, too.
    if (job.pieces >= MAX_PIECES - 1 || job.bytes > MAX_STREAM_BYTES) {
      const limits = `${MAX_PIECES} pieces and ${MAX_STREAM_BYTES} bytes`;
      job.cancel(new ServingError('HANDLER_FAILED', `An answer has more than ${limits}`));
      return;
    }
    job.stream.push({ kind: 'chunk', bytes: piece.bytes });
  }

  #answer(job: HandlerJob, answer: HandlerAnswer): void {
    if (answer.kind === 'failed') {
      this.fail(job, new ServingError('HANDLER_FAILED', answer.message));
      return;
    }
    if (answer.kind === 'whole' && !job.stream.ended) {
      job.stream.push({ kind: 'head', ...answer.head });
      job.stream.push({ kind: 'chunk', bytes: answer.bytes });
    }
    this.finish(job);
  }
}
