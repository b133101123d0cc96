/**
 * The worker pool of one model: its queue, its groups, its state.
 *
 * In      ModelConfig; requests
 * Out     accepted jobs; ModelStatus
 * Limits  job_queue_size waiting jobs; what admission.ts lets in
 * Errors  MODEL_NOT_READY, BAD_REQUEST, PROMPT_TOO_LONG, NO_CHAT_TEMPLATE, QUEUE_FULL, CANCELLED: nothing reached a worker
 *
 * State: PENDING until the first group runs, READY from then on, also while a group restarts (jobs wait then), FAILED when
 * no group is left.
 */
import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import { ServingError } from '../../proto/errors.js';
import { MAX_STEP_TOKENS } from '../../proto/limits.js';
import type { Manifest } from '../../proto/manifest.js';
import type { SlotFreed } from '../batching/batch-loop.js';
import { ChunkBudget } from '../batching/chunk-budget.js';
import { systemClock } from '../batching/clock.js';
import { ContinuousBatcher } from '../batching/continuous-batcher.js';
import { DynamicBatcher } from '../batching/dynamic-batcher.js';
import { SlotTable } from '../batching/slot-table.js';
import type { ModelConfig } from '../config/config.js';
import type { GenerateRequest, Generation, ModelStatus } from '../jobs/generate-request.js';
import { clientLeft, Job } from '../jobs/job.js';
import { JobQueue } from '../jobs/job-queue.js';
import type { ObservePool, PoolSample, WorkObserver } from '../jobs/work-observer.js';
import { type AdmissionLimits, admitNewTokens } from './admission.js';
import { kvTokens } from './kv-memory.js';
import { availableMemory, usableCores } from './machine-limits.js';
import type { PreparedModel, PrepareOptions } from './prepare-model.js';
import { checkTokenId, resolveSampling } from './sampling.js';
import { WorkerGroup } from './worker-group.js';

/** Prompt tokens of one step at most: more at once is no faster, and their activations are memory. */
const MAX_PREFILL_TOKENS = 512;

export type PrepareModel = (
  config: ModelConfig,
  options: Pick<PrepareOptions, 'signal' | 'onProgress'>,
) => Promise<PreparedModel>;

export interface WorkerPoolOptions {
  config: ModelConfig;
  prepare: PrepareModel;
  workerProgram: string;
  logLevel: string;
  logger: Logger;
  /** Bytes of shards written, then of weights loaded. */
  onProgress?: (phase: 'partition' | 'load', doneBytes: number, totalBytes: number) => void;
  onSlotFreed?: (event: SlotFreed) => void;
  observe?: ObservePool;
}

interface Sizes extends AdmissionLimits {
  maxSlots: number;
  maxStepTokens: number;
}

export class WorkerPool {
  readonly config: ModelConfig;
  readonly #options: WorkerPoolOptions;
  readonly #queue: JobQueue;
  readonly #groups: WorkerGroup[] = [];
  readonly #jobs = new Set<Job>();
  readonly #registeredAtMs = Date.now();
  readonly #stop = new AbortController();
  #state: ModelStatus['state'] = 'PENDING';
  #model: (PreparedModel & { sizes: Sizes }) | null = null;
  #started: Promise<void> | null = null;
  #nextJob = 1;
  readonly #observer: WorkObserver | undefined;

  constructor(options: WorkerPoolOptions) {
    this.#options = options;
    this.config = options.config;
    this.#observer = options.observe?.(options.config, () => this.#sample());
    const { jobQueueSize, predictTimeoutSeconds } = options.config;
    this.#queue = new JobQueue(this.id, jobQueueSize, predictTimeoutSeconds * 1000);
  }

  /** The model's name, and its version where it has one. */
  get id(): string {
    const { name, version } = this.config;
    return version === null ? name : `${name}:${version}`;
  }

  get groups(): readonly WorkerGroup[] {
    return this.#groups;
  }

  /** Shards, tokenizer, workers. @throws ServingError; the state is FAILED then */
  start(): Promise<void> {
    this.#started = this.#start();
    return this.#started;
  }

  async #start(): Promise<void> {
    const { onProgress, prepare } = this.#options;
    const startMs = systemClock.nowMs();
    const timeout = AbortSignal.timeout(this.config.modelLoadingTimeoutSeconds * 1000);
    try {
      const prepared = await prepare(this.config, {
        signal: AbortSignal.any([this.#stop.signal, timeout]),
        onProgress: (done, total) => onProgress?.('partition', done, total),
      });
      this.#model = { ...prepared, sizes: sizesOf(this.config, prepared.manifest) };
      const group = this.#makeGroup(this.#model);
      this.#groups.push(group);
      await group.start();
      this.#observer?.loaded(systemClock.nowMs() - startMs);
    } catch (error) {
      this.#fail();
      this.#observer?.loadingFailed();
      if (this.#stop.signal.aborted) throw stopped();
      throw timeout.aborted ? this.#loadedTooLong() : ServingError.from(error);
    }
  }

  /** @throws ServingError */
  async submit(request: GenerateRequest, signal: AbortSignal): Promise<Generation> {
    try {
      return await this.#submit(request, signal);
    } catch (error) {
      this.#observer?.refused(ServingError.from(error).code);
      throw error;
    }
  }

  async #submit(request: GenerateRequest, signal: AbortSignal): Promise<Generation> {
    const receivedAtMs = systemClock.nowMs();
    const model = this.#model;
    if (this.#state !== 'READY' || !model) throw this.#notReady();
    const promptIds = await model.encoder.encode(request.prompt);
    if (signal.aborted) throw clientLeft();
    const job = this.#makeJob(request, promptIds, model);
    job.receivedAtMs = receivedAtMs;
    this.#queue.push(job);
    this.#jobs.add(job);
    const onAbort = (): void => job.cancel(clientLeft());
    signal.addEventListener('abort', onAbort, { once: true });
    void job.ended.then(() => {
      signal.removeEventListener('abort', onAbort);
      this.#jobs.delete(job);
      this.#observeEnd(job);
    });
    return { promptTokens: promptIds.length, events: job.stream };
  }

  status(): ModelStatus {
    const { name, outputFormatter, version } = this.config;
    return {
      name,
      version,
      state: this.#state,
      healthy: this.#state === 'READY' && this.#groups.every((group) => group.state === 'running'),
      loadedAtStartup: true,
      registeredAtMs: this.#registeredAtMs,
      contextLength: this.#model?.sizes.slotTokens ?? 0,
      outputFormatter,
    };
  }

  /** Resolves when no accepted job is left. */
  async drain(): Promise<void> {
    while (this.#jobs.size > 0) await Promise.all([...this.#jobs].map((job) => job.ended));
  }

  #observeEnd(job: Job): void {
    const { ending } = job.stream;
    if (!this.#observer || !ending) return;
    const durationMs = systemClock.nowMs() - job.receivedAtMs;
    this.#observer.jobEnded(
      ending instanceof ServingError
        ? { reason: ending.code, durationMs, newTokens: 0 }
        : { reason: ending.reason, durationMs, newTokens: ending.newTokens },
    );
  }

  #sample(): PoolSample {
    return {
      ready: this.#state === 'READY',
      jobsWaiting: this.#queue.length,
      groups: this.#groups.map((group) => group.sample()),
    };
  }

  /** Ends every job that is left, then the workers. */
  async close(): Promise<void> {
    this.#stop.abort();
    for (const job of this.#jobs)
      job.cancel(new ServingError('SHUTTING_DOWN', 'The server is being stopped'));
    await Promise.all(this.#groups.map((group) => group.stop()));
    await this.#model?.encoder.close();
    this.#observer?.closed();
  }

  #makeJob(
    request: GenerateRequest,
    promptIds: readonly number[],
    model: PreparedModel & { sizes: Sizes },
  ): Job {
    const info = model.manifest.model;
    const maxNewTokens = admitNewTokens(promptIds.length, request.maxNewTokens, model.sizes);
    for (const id of request.stopTokenIds) checkTokenId(id, info.vocabSize, 'stop_token_ids');
    const { sampling, seed } = resolveSampling(request, info, maxNewTokens, random53Bits);
    const modelEnds = request.ignoreEndIds ? [] : info.endIds;
    return new Job({
      id: this.#nextJob++,
      request,
      promptIds,
      maxNewTokens,
      endIds: [...new Set([...modelEnds, ...request.stopTokenIds])],
      sampling,
      seed,
      queuedAtMs: systemClock.nowMs(),
    });
  }

  #makeGroup(model: PreparedModel & { sizes: Sizes }): WorkerGroup {
    const { config } = this;
    const { logLevel, logger, onProgress, onSlotFreed, workerProgram } = this.#options;
    const { manifest, shardFolder, sizes, texts } = model;
    const { worldSize } = manifest;
    return new WorkerGroup({
      coordinator: {
        launch: {
          shardFolder,
          worldSize,
          threads: config.threadsPerRank ?? Math.max(1, Math.floor(usableCores() / worldSize)),
          maxSlots: sizes.maxSlots,
          slotTokens: sizes.slotTokens,
          maxStepTokens: sizes.maxStepTokens,
          collectiveTimeoutMs: config.stepTimeoutSeconds * 1000,
          collective: config.collective,
          collectiveSpinUs: usableCores() < worldSize ? 0 : 50,
          verifyChecksums: config.verifyChecksums,
          logLevel,
        },
        workerProgram,
        loadingTimeoutMs: config.modelLoadingTimeoutSeconds * 1000,
        stepTimeoutMs: config.stepTimeoutSeconds * 1000,
        logger,
        onLoading: (done, total) => onProgress?.('load', done, total),
      },
      makeLoopParts: () => ({
        queue: this.#queue,
        batcher:
          config.batching === 'rolling'
            ? new ContinuousBatcher()
            : new DynamicBatcher(config.batchSize, config.maxBatchDelayMs),
        slots: new SlotTable(sizes.maxSlots, sizes.kvTokens),
        chunkBudget: new ChunkBudget(config.prefillChunkMs, sizes.maxStepTokens - sizes.maxSlots),
        texts,
        clock: systemClock,
        onJobStarted: (job) =>
          logger.debug({ jobId: job.id, requestId: job.request.requestId }, 'slot taken'),
        onSlotFreed: (event) => {
          logger.debug(event, 'slot freed');
          onSlotFreed?.(event);
        },
        ...(this.#observer && { observer: this.#observer }),
      }),
      retryThreshold: config.retryThreshold,
      logger,
      onChange: () => this.#groupChanged(),
      onRestart: () => this.#observer?.groupRestarted(),
    });
  }

  #groupChanged(): void {
    const states = this.#groups.map((group) => group.state);
    if (states.includes('running')) this.#state = 'READY';
    else if (states.every((state) => state === 'failed')) this.#fail();
  }

  #fail(): void {
    this.#state = 'FAILED';
    this.#queue.failAll(this.#notReady());
  }

  #loadedTooLong(): ServingError {
    const limit = this.config.modelLoadingTimeoutSeconds;
    return new ServingError(
      'MODEL_NOT_READY',
      `Model ${this.id} was not ready after ${limit} s (option.model_loading_timeout)`,
    );
  }

  #notReady(): ServingError {
    return new ServingError('MODEL_NOT_READY', `Model is not ready: ${this.id}`);
  }
}

function sizesOf(config: ModelConfig, manifest: Manifest): Sizes {
  const maxSlots = config.batching === 'rolling' ? config.maxRollingBatchSize : config.batchSize;
  const slotTokens = Math.min(config.maxModelLen ?? Number.POSITIVE_INFINITY, manifest.model.contextLength);
  return {
    maxSlots,
    slotTokens,
    maxStepTokens: Math.min(MAX_STEP_TOKENS, maxSlots + MAX_PREFILL_TOKENS),
    kvTokens: kvTokens(manifest, {
      configuredMb: config.kvCacheMemoryMb,
      availableBytes: availableMemory(),
      maxSlots,
      slotTokens,
    }),
  };
}

const stopped = (): ServingError => new ServingError('SHUTTING_DOWN', 'The server is being stopped');

/** A seed that JSON and JavaScript hold exactly. */
const random53Bits = (): number => Number(randomBytes(8).readBigUInt64LE() >> 11n);
