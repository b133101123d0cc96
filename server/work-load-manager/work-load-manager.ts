/**
 * The work load manager: every model's pool, and the one door for requests.
 *
 * In      model configurations; GenerateRequests
 * Out     GenerationService for the transports
 * Errors  MODEL_NOT_FOUND, SHUTTING_DOWN, and those of worker-pool.ts
 */
import type { Logger } from 'pino';
import { ServingError } from '../../proto/errors.js';
import type { SlotFreed } from '../batching/batch-loop.js';
import type { ModelConfig } from '../config/config.js';
import type {
  GenerateRequest,
  Generation,
  GenerationService,
  ModelStatus,
} from '../jobs/generate-request.js';
import type { ObservePool } from '../jobs/work-observer.js';
import { type PrepareModel, WorkerPool } from './worker-pool.js';

export interface WorkLoadManagerOptions {
  prepare: PrepareModel;
  /** Path of the shard worker's compiled program. */
  workerProgram: string;
  logLevel: string;
  logger: Logger;
  onProgress?: (model: string, phase: 'partition' | 'load', doneBytes: number, totalBytes: number) => void;
  onSlotFreed?: (model: string, event: SlotFreed) => void;
  /** Who watches each pool: the metrics. */
  observe?: ObservePool;
}

export class WorkLoadManager implements GenerationService {
  readonly #options: WorkLoadManagerOptions;
  readonly #pools: WorkerPool[] = [];
  #draining = false;

  constructor(options: WorkLoadManagerOptions) {
    this.#options = options;
  }

  /** Resolves when the model is ready. @throws ServingError; the model stays registered as FAILED */
  async load(config: ModelConfig): Promise<void> {
    const { logger, onProgress, onSlotFreed, ...rest } = this.#options;
    const pool = new WorkerPool({
      ...rest,
      config,
      logger: logger.child({ model: config.name }),
      onProgress: (phase, done, total) => onProgress?.(config.name, phase, done, total),
      onSlotFreed: (event) => onSlotFreed?.(config.name, event),
    });
    this.#pools.push(pool);
    await pool.start();
  }

  /** @throws ServingError: nothing reached a worker */
  async submit(request: GenerateRequest, signal: AbortSignal): Promise<Generation> {
    if (this.#draining) throw new ServingError('SHUTTING_DOWN', 'The server is being stopped');
    return this.#find(request.model, request.version).submit(request, signal);
  }

  models(): readonly ModelStatus[] {
    return this.#pools.map((pool) => pool.status()).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Takes nothing new and waits until all is answered, or for `limitMs`. */
  async drain(limitMs: number): Promise<void> {
    this.#draining = true;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, limitMs);
    });
    await Promise.race([Promise.all(this.#pools.map((pool) => pool.drain())), late]);
    clearTimeout(timer);
  }

  /** Ends what still runs, and every worker. */
  async close(): Promise<void> {
    this.#draining = true;
    await Promise.all(this.#pools.map((pool) => pool.close()));
  }

  #find(name: string, version: string | null): WorkerPool {
    const sameName = this.#pools.filter((pool) => pool.config.name === name);
    const pool = version === null ? sameName[0] : sameName.find((one) => one.config.version === version);
    if (pool) return pool;
    const id = version === null ? name : `${name}:${version}`;
    throw new ServingError('MODEL_NOT_FOUND', `Model not found: ${id}`);
  }
}
