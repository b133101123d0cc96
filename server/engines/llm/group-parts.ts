/**
 * What one worker group is made of: how its ranks are launched, and the parts of its batch loop.
 *
 * In      configuration, prepared model, sizes, the pool's queue
 * Out     options of a WorkerGroup
 */
import type { Logger } from 'pino';
import type { Manifest } from '../../../proto/manifest.js';
import type { BatchLoopOptions, SlotFreed } from '../../batching/batch-loop.js';
import { ChunkBudget } from '../../batching/chunk-budget.js';
import { systemClock } from '../../batching/clock.js';
import { ContinuousBatcher } from '../../batching/continuous-batcher.js';
import { DynamicBatcher } from '../../batching/dynamic-batcher.js';
import { PrefixCache } from '../../batching/prefix-cache.js';
import { SlotTable } from '../../batching/slot-table.js';
import type { ModelConfig } from '../../config/config.js';
import type { CoordinatorOptions } from '../../coordinator/coordinator.js';
import type { Job } from '../../jobs/job.js';
import type { JobQueue } from '../../jobs/job-queue.js';
import type { WorkObserver } from '../../jobs/work-observer.js';
import { usableCores } from '../../machine/machine-limits.js';
import type { GroupSizes } from './group-sizes.js';
import type { PreparedModel } from './prepare-model.js';

/** Who wants to see what groups do. */
export interface GroupHooks {
  /** Bytes of weights loaded, of all ranks of a group. */
  onLoading?: (doneBytes: number, totalBytes: number) => void;
  onJobStarted?: (job: Job) => void;
  onSlotFreed?: (event: SlotFreed) => void;
  observer?: WorkObserver;
}

export interface GroupPartsOptions {
  config: ModelConfig;
  model: PreparedModel;
  sizes: GroupSizes;
  threads: number;
  /** Other groups run on this machine's cores. */
  sharesCores: boolean;
  queue: JobQueue;
  mayStart: () => number;
  workerProgram: string;
  logLevel: string;
  logger: Logger;
  hooks?: GroupHooks;
}

/** Everything a loop needs but the group it steps; made anew for each start, since slots die with their workers. */
export type LoopParts = Omit<BatchLoopOptions, 'group' | 'onIdle'>;

export interface GroupParts {
  coordinator: CoordinatorOptions;
  makeLoopParts: () => LoopParts;
}

export function makeGroupParts(options: GroupPartsOptions): GroupParts {
  const {
    config,
    hooks,
    logLevel,
    logger,
    mayStart,
    model,
    queue,
    sharesCores,
    sizes,
    threads,
    workerProgram,
  } = options;
  const { worldSize } = model.manifest;
  return {
    coordinator: {
      launch: {
        shardFolder: model.shardFolder,
        worldSize,
        threads,
        maxSlots: sizes.maxSlots,
        warmSlots: sizes.warmSlots,
        slotTokens: sizes.slotTokens,
        maxStepTokens: sizes.maxStepTokens,
        collectiveTimeoutMs: config.stepTimeoutSeconds * 1000,
        collective: config.collective,
        collectiveCompression: config.collectiveCompression,
        threadsSpin: threads > 1 && !sharesCores,
        collectiveSpinUs: usableCores() < worldSize ? 0 : 50,
        verifyChecksums: config.verifyChecksums,
        logLevel,
      },
      workerProgram,
      loadingTimeoutMs: config.modelLoadingTimeoutSeconds * 1000,
      stepTimeoutMs: config.stepTimeoutSeconds * 1000,
      logger,
      onLoading: (done, total) => hooks?.onLoading?.(done, total),
    },
    makeLoopParts: () => ({
      queue,
      batcher:
        config.batching === 'rolling'
          ? new ContinuousBatcher()
          : new DynamicBatcher(config.batchSize, config.maxBatchDelayMs),
      ...slotParts(sizes, model.manifest),
      chunkBudget: new ChunkBudget(config.prefillChunkMs, sizes.maxStepTokens - sizes.maxSlots),
      texts: model.texts,
      wholePrompts: model.manifest.model.embedding !== undefined,
      clock: systemClock,
      mayStart,
      onJobStarted: (job) => {
        const waitMs = (job.startedAtMs ?? job.queuedAtMs) - job.queuedAtMs;
        logger.debug({ jobId: job.id, requestId: job.request.requestId, waitMs }, 'slot taken');
        hooks?.onJobStarted?.(job);
      },
      onSlotFreed: (event) => {
        logger.debug(event, 'slot freed');
        hooks?.onSlotFreed?.(event);
      },
      ...(hooks?.observer && { observer: hooks.observer }),
    }),
  };
}

/** Anew for each start of a group: rows die with their workers. */
function slotParts(
  { kvTokens, maxSlots, warmSlots }: GroupSizes,
  { longContext, model }: Manifest,
): Pick<BatchLoopOptions, 'slots' | 'prefixCache'> {
  const slots = new SlotTable(maxSlots, kvTokens, warmSlots);
  // A text of an embedding model is seen whole by its first token: no row of it is another text's.
  if (warmSlots === 0 || model.embedding !== undefined) return { slots };
  return { slots, prefixCache: new PrefixCache({ slots, longAfterTokens: longContext?.after ?? null }) };
}
