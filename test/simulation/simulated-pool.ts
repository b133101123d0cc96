/**
 * A pool of a language model over simulated ranks: everything of the server between a request and the ranks is the real thing.
 *
 * In      sizes and rates of the seed; virtual time
 * Out     the pool; its loops and slots, to be looked at; the jobs it has accepted
 */
import { pino } from 'pino';
import { GREEDY_SAMPLING } from '../../proto/control.js';
import { ChunkBudget } from '../../server/batching/chunk-budget.js';
import { ContinuousBatcher } from '../../server/batching/continuous-batcher.js';
import { PrefixCache } from '../../server/batching/prefix-cache.js';
import { deathLimits } from '../../server/batching/resumption.js';
import { SlotTable, type SwapLimits } from '../../server/batching/slot-table.js';
import type { ModelConfig } from '../../server/config/config.js';
import type { FittedModel, PreparedModel, Replica, ReplicaOptions } from '../../server/engines/engine.js';
import { LlmReplica } from '../../server/engines/llm/llm-replica.js';
import { systemClock } from '../../server/jobs/clock.js';
import { GenerationJob, type TokenConstraint } from '../../server/jobs/generation-job.js';
import type { JobQueue } from '../../server/jobs/job-queue.js';
import type { JobEnding, WorkObserver } from '../../server/jobs/work-observer.js';
import { MemoryLedger } from '../../server/machine/memory-ledger.js';
import type { GenerateRequest } from '../../server/requests/generate-request.js';
import type { JobRequest } from '../../server/requests/service.js';
import { WorkerPool } from '../../server/work-load-manager/worker-pool.js';
import { FAKE_TEXTS } from '../fixtures/generate-requests.js';
import { FAKE_CONFIG } from '../support/fake-model.js';
import type { SimulatedRanks } from './simulated-ranks.js';

export interface PoolSizes {
  worldSize: number;
  maxSlots: number;
  warmSlots: number;
  swap: SwapLimits;
  kvTokens: number;
  slotTokens: number;
  maxPrefill: number;
  config: Partial<ModelConfig>;
}

export interface Life {
  replica: LlmReplica;
  slots: SlotTable;
}

export class SimulatedPool {
  readonly pool: WorkerPool;
  readonly jobs: GenerationJob[] = [];
  readonly lives: Life[] = [];
  readonly endings: JobEnding[] = [];
  resumed = 0;
  failed = false;
  /** The pool's. */
  queue: JobQueue<GenerationJob> | null = null;
  readonly #sizes: PoolSizes;
  readonly #ranks: SimulatedRanks;
  readonly #onJobStarted: (job: GenerationJob) => void;
  readonly #constrain: (promptIds: readonly number[]) => TokenConstraint | null;
  readonly #logger = pino({ level: 'silent' });

  /** @param constrain whether the answer to a prompt shall have a form, and what masks it has; null: it is free */
  constructor(
    sizes: PoolSizes,
    ranks: SimulatedRanks,
    onJobStarted: (job: GenerationJob) => void,
    constrain: (promptIds: readonly number[]) => TokenConstraint | null,
  ) {
    this.#constrain = constrain;
    this.#sizes = sizes;
    this.#ranks = ranks;
    this.#onJobStarted = onJobStarted;
    this.pool = new WorkerPool({
      id: 'toy',
      config: this.#config,
      model: this.#model(),
      ledger: new MemoryLedger(
        () => 2 ** 50,
        () => 0,
      ),
      logger: this.#logger,
      onFailed: () => {
        this.failed = true;
      },
      hooks: { observer: this.#observer(), onJobStarted: (job) => this.#onJobStarted(job as GenerationJob) },
    });
  }

  get #config(): ModelConfig {
    return { ...FAKE_CONFIG, ...this.#sizes.config };
  }

  #observer(): WorkObserver {
    const nothing = (): void => {};
    return {
      ...{
        jobStarted: nothing,
        firstToken: nothing,
        nextToken: nothing,
        stepDone: nothing,
        refused: nothing,
      },
      ...{ groupRestarted: nothing, loaded: nothing, loadingFailed: nothing, closed: nothing },
      jobResumed: () => {
        this.resumed++;
      },
      jobEnded: (ending) => this.endings.push(ending),
    };
  }

  #model(): PreparedModel {
    return {
      ...{ task: 'text-generation' as const, signature: null, unservedKeys: [] },
      worldSize: this.#sizes.worldSize,
      fit: () => this.#fitted(),
      close: async () => {},
    };
  }

  #fitted(): FittedModel {
    return {
      contextLength: this.#sizes.slotTokens,
      need: { weightBytes: 0, kvBytes: 0, workspaceBytes: 0, totalBytes: 0 },
      accept: async (request: JobRequest, { jobId, receivedAtMs }) => {
        const own = request as GenerateRequest;
        const promptIds = own.prompt.kind === 'ids' ? own.prompt.ids : [];
        const constraint = this.#constrain(promptIds);
        const job = new GenerationJob({
          ...(constraint && { constraint }),
          ...{ id: jobId, request: own, promptIds, receivedAtMs, queuedAtMs: systemClock.nowMs() },
          ...{
            maxNewTokens: own.maxNewTokens!,
            endIds: own.stopTokenIds,
            sampling: GREEDY_SAMPLING,
            seed: 0,
          },
        });
        this.jobs.push(job);
        return { job, promptTokens: promptIds.length };
      },
      newReplica: (options) => this.#newReplica(options),
    };
  }

  #newReplica(options: ReplicaOptions): Replica {
    const { kvTokens, maxPrefill, maxSlots, slotTokens, swap, warmSlots, worldSize } = this.#sizes;
    const config = this.#config;
    const slots = new SlotTable(maxSlots, kvTokens, warmSlots, swap);
    this.queue = options.queue as JobQueue<GenerationJob>;
    const replica = new LlmReplica(
      {
        coordinator: {
          launch: {
            ...{
              shardFolder: '',
              worldSize,
              threads: 1,
              maxSlots,
              warmSlots: warmSlots + swap.slots,
              slotTokens,
              collectiveTimeoutMs: 1000,
            },
            ...{
              maxStepTokens: maxPrefill + maxSlots,
              collective: 'zmq',
              verifyChecksums: false,
              logLevel: 'info',
            },
          },
          loadingTimeoutMs: config.modelLoadingTimeoutSeconds * 1000,
          stepTimeoutMs: config.stepTimeoutSeconds * 1000,
          logger: this.#logger,
          watchdog: { stateOf: (pid) => this.#ranks.stateOf(pid) },
          launcher: this.#ranks,
          memoryKills: { look: () => {}, killerOf: (pid) => this.#ranks.killerOf(pid) },
        },
        loop: {
          queue: this.queue,
          batcher: new ContinuousBatcher(config.promptOrder),
          slots,
          ...(warmSlots > 0 && { prefixCache: new PrefixCache({ slots, longAfterTokens: null }) }),
          chunkBudget: new ChunkBudget({ gapMs: 20, scheduling: 'balanced', maxTokens: maxPrefill }),
          texts: FAKE_TEXTS,
          clock: systemClock,
          deathLimits: deathLimits(config.requestRetries, config.retryThreshold),
          mayStart: options.mayStart,
          ...(options.hooks.onJobStarted && { onJobStarted: options.hooks.onJobStarted }),
          ...(options.hooks.observer && { observer: options.hooks.observer }),
        },
      },
      options.onIdle,
    );
    this.lives.push({ replica, slots });
    return replica;
  }
}
