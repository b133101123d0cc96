/**
 * A pool of a language model over simulated ranks: everything of the server between a request and the ranks is the real thing.
 *
 * In      sizes and rates of the seed; virtual time
 * Out     the pool; its loops and slots, to be looked at; the jobs it has accepted
 */
import { pino } from 'pino';
import { GREEDY_SAMPLING } from '../../proto/control.js';
import { ChunkBudget, type Scheduling } from '../../server/batching/chunk-budget.js';
import { ContinuousBatcher } from '../../server/batching/continuous-batcher.js';
import { DynamicBatcher } from '../../server/batching/dynamic-batcher.js';
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
import { fakeTokens } from '../support/fake-rank.js';
import type { SimulatedRanks } from './simulated-ranks.js';

export interface PoolSizes {
  worldSize: number;
  maxSlots: number;
  warmSlots: number;
  swap: SwapLimits;
  kvTokens: number;
  slotTokens: number;
  maxPrefill: number;
  /** Tokens of a step that are guessed or known; 0: none. */
  maxDrafts: number;
  /** Guesses of one sequence. */
  drafts: number;
  /** Requests that start together, where a batch is whole; null: they join at every step. */
  batchSize: number | null;
  scheduling: Scheduling;
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
  preempted = 0;
  /** Tokens that were told to be made. */
  made = 0;
  /** What was told of it that cannot be. */
  readonly nonsense: string[] = [];
  failed = false;
  /** The pool's. */
  queue: JobQueue<GenerationJob> | null = null;
  readonly #sizes: PoolSizes;
  readonly #ranks: SimulatedRanks;
  readonly #onJobStarted: (job: GenerationJob) => void;
  readonly #constrain: (promptIds: readonly number[], told: number) => TokenConstraint | null;
  readonly #guess: (ids: readonly number[], most: number) => number[];
  readonly #logger = pino({ level: 'silent' });

  /**
   * @param constrain whether the answer behind a prompt and its told tokens shall have a form, and what masks it has; null: it is free
   * @param guess what follows, right or wrong
   */
  constructor(
    sizes: PoolSizes,
    ranks: SimulatedRanks,
    onJobStarted: (job: GenerationJob) => void,
    constrain: (promptIds: readonly number[], told: number) => TokenConstraint | null,
    guess: (ids: readonly number[], most: number) => number[],
  ) {
    this.#guess = guess;
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
        firstToken: (ms) => this.#token(ms),
        nextToken: (ms) => this.#token(ms),
        stepDone: nothing,
        refused: nothing,
      },
      ...{ groupRestarted: nothing, loaded: nothing, loadingFailed: nothing, closed: nothing },
      draftsTried: (drafts, accepted) => {
        if (accepted > drafts || this.#sizes.drafts < drafts)
          this.nonsense.push(`${accepted} of ${drafts} guesses were right`);
      },
      prefixLookedUp: (tokens, cached) => {
        if (cached < 0 || cached >= tokens)
          this.nonsense.push(`${cached} of ${tokens} prompt tokens were there`);
      },
      jobResumed: () => {
        this.resumed++;
      },
      jobEnded: (ending) => this.endings.push(ending),
    };
  }

  #token(ms: number): void {
    this.made++;
    if (!(ms >= 0)) this.nonsense.push(`a token came after ${ms} ms`);
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
        const told = own.promptLogprobs ?? 0;
        const constraint = this.#constrain(promptIds, told);
        const job = new GenerationJob({
          ...(constraint && { constraint }),
          ...{ id: jobId, request: own, promptIds, receivedAtMs, queuedAtMs: systemClock.nowMs() },
          ...{
            ...(told > 0 && { toldPrompt: fakeTokens(promptIds, told) }),
            maxNewTokens: told + own.maxNewTokens!,
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
    const {
      batchSize,
      kvTokens,
      maxDrafts,
      maxPrefill,
      maxSlots,
      scheduling,
      slotTokens,
      swap,
      warmSlots,
      worldSize,
    } = this.#sizes;
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
              maxStepTokens: maxPrefill + maxSlots + maxDrafts,
              maxDrafts,
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
          batcher:
            batchSize === null
              ? new ContinuousBatcher(config.promptOrder)
              : new DynamicBatcher(batchSize, 50, config.promptOrder),
          ...(maxDrafts > 0 && {
            drafts: { perSequence: this.#sizes.drafts, perStep: maxDrafts, guess: this.#guess },
          }),
          slots,
          ...(warmSlots > 0 && { prefixCache: new PrefixCache({ slots, longAfterTokens: null }) }),
          chunkBudget: new ChunkBudget({ gapMs: 20, scheduling, maxTokens: maxPrefill }),
          texts: FAKE_TEXTS,
          clock: systemClock,
          deathLimits: deathLimits(config.requestRetries, config.retryThreshold),
          mayStart: options.mayStart,
          onSlotFreed: ({ why }) => {
            if (why === 'preempted') this.preempted++;
          },
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
