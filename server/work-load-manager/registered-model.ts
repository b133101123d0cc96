/**
 * One registered (name, version), from the first byte that is fetched to its end.
 *
 * State   PENDING: it is fetched, split and loaded → READY: its pool takes requests, also while a group restarts → FAILED: it
 *         did not load, or too many of its groups died (`failure` says why); it is tried again after a cool-down, or by retry()
 * In      a ModelOrigin; requests
 * Out     accepted jobs, description, progress
 * Limits  option.model_loading_timeout from when it is fetched
 * Errors  MODEL_NOT_READY while it is not READY; those of worker-pool.ts
 */
import type { Logger } from 'pino';
import { type ErrorCode, ServingError } from '../../proto/errors.js';
import type { ModelConfig } from '../config/config.js';
import type { Engine, ReplicaHooks } from '../engines/engine.js';
import { systemClock } from '../jobs/clock.js';
import type { ObservePool, PoolSample, WorkObserver } from '../jobs/work-observer.js';
import type { MemoryLedger } from '../machine/memory-ledger.js';
import { checkMemory, type MemoryNeed } from '../machine/memory-need.js';
import type { LoadingProgress, PoolDescription } from '../requests/management.js';
import type { ModelTokens } from '../requests/model-tokens.js';
import type { Accepted, JobRequest, ModelStatus } from '../requests/service.js';
import { CoolDown } from './cool-down.js';
import type { ModelOrigin } from './model-origin.js';
import { statusOf } from './model-status.js';
import { describeModel } from './pool-description.js';
import { WorkerPool } from './worker-pool.js';

export interface RegisteredModelOptions {
  origin: ModelOrigin;
  loadedAtStartup: boolean;
  /** @throws ServingError CONFIG_INVALID: none serves it */
  engineOf: (config: ModelConfig) => Engine;
  ledger: MemoryLedger;
  /** Groups of other models run on this machine, or will; default: they do not. */
  hasNeighbours?: () => boolean;
  /** Threads of the groups of other models; default: none. */
  otherThreads?: () => number;
  /** It ran and has failed for good. */
  onFailed?: () => void;
  logger: Logger;
  hooks?: Omit<ReplicaHooks, 'onLoading' | 'observer'>;
  observe?: ObservePool;
  onProgress?: (progress: LoadingProgress) => void;
}

/** What another try cannot mend; an operator who has mended it asks for one. */
const LASTING: readonly ErrorCode[] = [
  'CONFIG_INVALID',
  'CHECKPOINT_INVALID',
  'TENSOR_PARALLEL_INVALID',
  'UNSUPPORTED_PLATFORM',
  'BAD_REQUEST',
];

export class RegisteredModel {
  readonly name: string;
  readonly version: string | null;
  readonly registeredAtMs = Date.now();
  /** What requests see of it, at the moment when they look. */
  readonly status: ModelStatus = statusOf(this);
  readonly loadedAtStartup: boolean;
  readonly #options: RegisteredModelOptions;
  readonly #stop = new AbortController();
  #config: ModelConfig;
  #pool: WorkerPool | null = null;
  #started: Promise<void> | null = null;
  /** From when the configuration is known. */
  #observer: WorkObserver | undefined;
  #isReady = false;
  /** It is loaded again, after it has failed to. */
  #isTrying = false;
  readonly #coolDown: CoolDown;
  #failure: ServingError | null = null;
  #loading: LoadingProgress | null = { stage: 'partition', doneBytes: 0, totalBytes: null };

  constructor(options: RegisteredModelOptions) {
    this.#options = options;
    this.#config = options.origin.provisional;
    this.name = this.#config.name;
    this.version = this.#config.version;
    this.loadedAtStartup = options.loadedAtStartup;
    const firstMs = this.#config.retryCoolDownSeconds * 1000;
    this.#coolDown = new CoolDown(firstMs, systemClock, () => void this.#loadAgain().catch(() => {}));
  }

  /** The name, and the version where there is one. */
  get id(): string {
    return this.version === null ? this.name : `${this.name}:${this.version}`;
  }

  get state(): 'PENDING' | 'READY' | 'FAILED' {
    if (this.failure) return 'FAILED';
    return this.#isReady ? 'READY' : 'PENDING';
  }

  /** While FAILED, until it is tried again; 0: now; null: not by itself. */
  get nextTryMs(): number | null {
    if (this.#isTrying) return 0;
    return (
      this.failure && (this.#failure ? this.#coolDown.remainingMs : (this.#pool?.groups.nextTryMs ?? null))
    );
  }

  get failure(): ServingError | null {
    return this.#failure ?? this.#pool?.groups.failure ?? null;
  }

  /** null until it is prepared. */
  get pool(): WorkerPool | null {
    return this.#pool;
  }

  get config(): ModelConfig {
    return this.#config;
  }

  /** null unless PENDING. */
  get loading(): LoadingProgress | null {
    return this.state === 'PENDING' ? this.#loading : null;
  }

  /** Fetches, splits, loads. @throws ServingError; the state is FAILED then */
  start(): Promise<void> {
    this.#started = this.#start();
    return this.#started;
  }

  /** A model that is FAILED, at once; any other is left as it is. Resolves when it serves. @throws ServingError */
  async retry(): Promise<void> {
    if (this.#isTrying) await this.#started;
    else if (this.#failure) await this.#loadAgain();
    else await this.#pool?.groups.retry();
  }

  async #loadAgain(): Promise<void> {
    if (this.#stop.signal.aborted) throw this.notReady();
    this.#coolDown.stop();
    this.#isTrying = true;
    this.#pool = null;
    this.#options.logger.info(`model ${this.id}, which has failed, is loaded again`);
    try {
      await this.start();
      this.#options.logger.info(`model ${this.id} is ready`);
    } finally {
      this.#isTrying = false;
    }
  }

  async #start(): Promise<void> {
    const { origin } = this.#options;
    const timeout = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    try {
      const onProgress = (progress: LoadingProgress): void => this.#tell(progress);
      const askedMs = systemClock.nowMs();
      this.#config = await origin.locate({ signal: this.#stop.signal, onProgress });
      this.#observer = this.#options.observe?.(this.#config, () => this.#sample());
      const startMs = systemClock.nowMs();
      const limitMs = this.#config.modelLoadingTimeoutSeconds * 1000;
      timer = setTimeout(() => timeout.abort(), limitMs);
      await this.#load(AbortSignal.any([this.#stop.signal, timeout.signal]));
      this.#failure = null;
      this.#coolDown.recovered();
      this.#isReady = true;
      this.#observer?.loaded(systemClock.nowMs() - startMs, startMs - askedMs);
    } catch (error) {
      this.#failure = this.#stop.signal.aborted
        ? new ServingError('SHUTTING_DOWN', `Model ${this.id} was stopped while it loaded`)
        : timeout.signal.aborted
          ? this.#loadedTooLong()
          : ServingError.from(error);
      this.#observer ??= this.#options.observe?.(this.#config, () => this.#sample());
      this.#observer?.loadingFailed();
      await this.#pool?.close();
      await origin.release();
      if (this.loadedAtStartup && !this.#stop.signal.aborted && !LASTING.includes(this.#failure.code))
        this.#coolDown.failed();
      throw this.#failure;
    } finally {
      clearTimeout(timer);
    }
  }

  async #load(signal: AbortSignal): Promise<void> {
    const { engineOf, hasNeighbours, hooks, ledger, logger, otherThreads } = this.#options;
    const model = await engineOf(this.#config).prepare(this.#config, {
      signal,
      onNeed: (needWhere) => this.#checkNeed(needWhere),
      onProgress: (doneBytes, totalBytes) => this.#tell({ stage: 'partition', doneBytes, totalBytes }),
      onNotice: (sentence) => logger.info(sentence),
    });
    if (model.unservedKeys.length > 0) {
      logger.warn({ keys: model.unservedKeys }, 'generation_config.json has settings that are not served');
    }
    if (model.takenFor !== undefined) logger.info(model.takenFor);
    const { answerFormat } = model;
    if (answerFormat) logger.info(answerFormat, 'answers are read by these parsers');
    for (const note of model.notes ?? []) logger.warn(note);
    if (signal.aborted) {
      await model.close();
      signal.throwIfAborted();
    }
    const pool = new WorkerPool({
      ...{ id: this.id, config: this.#config, model, ledger, logger },
      ...(hasNeighbours && { hasNeighbours }),
      ...(otherThreads && { otherThreads }),
      onFailed: () => this.#options.onFailed?.(),
      hooks: {
        ...hooks,
        ...(this.#observer && { observer: this.#observer }),
        onLoading: (doneBytes, totalBytes) => {
          if (this.#isReady) return;
          this.#tell({ stage: 'load', doneBytes, totalBytes });
          if (doneBytes >= totalBytes) this.#loading = { stage: 'warm-up', doneBytes: 0, totalBytes: null };
        },
      },
    });
    this.#pool = pool;
    const onAbort = (): void => void pool.close();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      await pool.start();
      signal.throwIfAborted();
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Before anything is written: whether the groups that shall start find room. */
  #checkNeed(needWhere: (freeBytes: number) => MemoryNeed): void {
    const freeBytes = this.#options.ledger.freeBytes();
    const need = needWhere(freeBytes);
    const others = Math.max(0, this.#config.minGroups - 1);
    checkMemory(this.id, need, freeBytes - others * need.totalBytes, this.#config);
  }

  #tell(progress: LoadingProgress): void {
    this.#loading = progress;
    this.#options.onProgress?.(progress);
  }

  /** @throws ServingError */
  async submit(request: JobRequest, signal: AbortSignal): Promise<Accepted> {
    try {
      if (!this.#pool || this.state !== 'READY') throw this.notReady();
      return await this.#pool.submit(request, signal);
    } catch (error) {
      this.#observer?.refused(ServingError.from(error).code);
      throw error;
    }
  }

  /** @throws ServingError */
  tokens(): ModelTokens {
    if (!this.#pool || this.state !== 'READY') throw this.notReady();
    const { tokens } = this.#pool;
    if (tokens === null) throw new ServingError('BAD_REQUEST', `Model ${this.id} knows no tokens`);
    return tokens;
  }

  #sample(): PoolSample {
    return {
      ready: this.state === 'READY',
      jobsWaiting: this.#pool?.waitingJobs ?? 0,
      groups: (this.#pool?.groups.all ?? []).map((group) => group.sample()),
    };
  }

  describe(): PoolDescription {
    return describeModel(this);
  }

  /** Waits until all accepted jobs are answered, or for `limitMs`. */
  async drain(limitMs: number): Promise<void> {
    if (!this.#pool) return;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, limitMs);
    });
    await Promise.race([this.#pool.drain(), late]);
    clearTimeout(timer);
  }

  /** Ends what is left of it, its workers and its downloads. */
  async close(): Promise<void> {
    this.#stop.abort();
    this.#coolDown.stop();
    await this.#started?.catch(() => {});
    await this.#pool?.close();
    await this.#options.origin.release();
    this.#observer?.closed();
  }

  notReady(): ServingError {
    return new ServingError('MODEL_NOT_READY', `Model is not ready: ${this.id}`);
  }

  #loadedTooLong(): ServingError {
    const limit = this.#config.modelLoadingTimeoutSeconds;
    return new ServingError(
      'MODEL_NOT_READY',
      `Model ${this.id} was not ready after ${limit} s (option.model_loading_timeout)`,
    );
  }
}
