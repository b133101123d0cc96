/**
 * What one life of a worker group is made of: how its ranks are launched, and the parts of its batch loop.
 *
 * In      configuration, the model's files, sizes, the pool's queue
 * Out     options of coordinator and batch loop
 */
import type { Manifest } from '../../../proto/manifest.js';
import type { BatchLoopOptions } from '../../batching/batch-loop-options.js';
import { ChunkBudget } from '../../batching/chunk-budget.js';
import { ContinuousBatcher } from '../../batching/continuous-batcher.js';
import { promptLookup } from '../../batching/drafts.js';
import { DynamicBatcher } from '../../batching/dynamic-batcher.js';
import { PrefixCache } from '../../batching/prefix-cache.js';
import { deathLimits } from '../../batching/resumption.js';
import { SlotTable } from '../../batching/slot-table.js';
import type { ModelConfig } from '../../config/config.js';
import type { CoordinatorOptions } from '../../coordinator/coordinator.js';
import { systemClock } from '../../jobs/clock.js';
import type { GenerationJob } from '../../jobs/generation-job.js';
import type { JobQueue } from '../../jobs/job-queue.js';
import type { MachineGpus } from '../../machine/machine-gpus.js';
import { usableCores } from '../../machine/machine-limits.js';
import type { RankLauncher } from '../../machine/ranks/rank-launcher.js';
import type { ReplicaOptions } from '../engine.js';
import type { GroupSizes } from './group-sizes.js';
import { kvTypeOf } from './kv-type.js';
import type { LlmFiles } from './prepare-model.js';

export interface GroupPartsOptions extends Omit<ReplicaOptions, 'queue' | 'onIdle'> {
  config: ModelConfig;
  model: LlmFiles;
  sizes: GroupSizes;
  gpus?: Pick<MachineGpus, 'cudaFolder'>;
  queue: JobQueue<GenerationJob>;
  launcher: RankLauncher;
}

/** Everything a loop needs but the group it steps. */
export type LoopParts = Omit<BatchLoopOptions, 'group' | 'onIdle'>;

export interface GroupParts {
  coordinator: CoordinatorOptions;
  loop: LoopParts;
}

export function makeGroupParts(options: GroupPartsOptions): GroupParts {
  const { config, hooks, logger, mayStart, model, queue, sharesCores, sizes, threads, launcher } = options;
  const { worldSize } = model.manifest;
  return {
    coordinator: {
      launch: {
        shardFolder: model.shardFolder,
        ...(model.manifestSha256 !== undefined && { manifestSha256: model.manifestSha256 }),
        worldSize,
        device: model.manifest.deviceClass,
        ...(options.devices && { gpus: options.devices, cudaFolder: options.gpus?.cudaFolder ?? '' }),
        threads,
        maxSlots: sizes.maxSlots,
        warmSlots: sizes.warmSlots + sizes.swap.slots,
        slotTokens: sizes.slotTokens,
        kvType: kvTypeOf(config),
        maxStepTokens: sizes.maxStepTokens,
        maxDrafts: sizes.maxDrafts,
        collectiveTimeoutMs: config.stepTimeoutSeconds * 1000,
        collective: config.collective,
        collectiveCompression: config.collectiveCompression,
        threadsSpin: threads > 1 && !sharesCores,
        collectiveSpinUs: usableCores() < worldSize ? 0 : 50,
        verifyChecksums: config.verifyChecksums,
      },
      launcher,
      loadingTimeoutMs: config.modelLoadingTimeoutSeconds * 1000,
      stepTimeoutMs: config.stepTimeoutSeconds * 1000,
      logger,
      onLoading: (done, total) => hooks.onLoading?.(done, total),
    },
    loop: {
      queue,
      batcher:
        config.batching === 'rolling'
          ? new ContinuousBatcher(config.promptOrder)
          : new DynamicBatcher(config.batchSize, config.maxBatchDelayMs, config.promptOrder),
      ...slotParts(sizes, model.manifest),
      chunkBudget: new ChunkBudget({
        gapMs: config.maxTokenGapMs,
        scheduling: config.scheduling,
        chunkMs: config.prefillChunkMs,
        maxTokens: sizes.maxStepTokens - sizes.maxSlots - sizes.maxDrafts,
      }),
      ...draftParts(config, sizes),
      texts: model.texts,
      wholePrompts: model.manifest.model.embedding !== undefined,
      clock: systemClock,
      deathLimits: deathLimits(config.requestRetries, config.retryThreshold),
      mayStart,
      onJobStarted: (job) => {
        const waitMs = (job.startedAtMs ?? job.queuedAtMs) - job.queuedAtMs;
        logger.debug({ jobId: job.id, requestId: job.request.requestId, waitMs }, 'slot taken');
        hooks.onJobStarted?.(job);
      },
      onSlotFreed: (event) => {
        logger.debug(event, 'slot freed');
        hooks.onSlotFreed?.(event);
      },
      ...(hooks.observer && { observer: hooks.observer }),
    },
  };
}

/** Guesses need memory on the ranks: an embedding model has none. */
function draftParts(
  { speculation }: ModelConfig,
  { maxDrafts }: GroupSizes,
): Pick<BatchLoopOptions, 'drafts'> {
  if (maxDrafts === 0) return {};
  if (!speculation) return { drafts: { perSequence: 0, perStep: maxDrafts, guess: () => [] } };
  const { longest, shortest, tokens } = speculation;
  return { drafts: { perSequence: tokens, perStep: maxDrafts, guess: promptLookup(shortest, longest) } };
}

function slotParts(
  { kvTokens, maxSlots, swap, warmSlots }: GroupSizes,
  { longContext, model }: Manifest,
): Pick<BatchLoopOptions, 'slots' | 'prefixCache'> {
  const slots = new SlotTable(maxSlots, kvTokens, warmSlots, swap);
  // A text of an embedding model is seen whole by its first token: no row of it is another text's.
  if (warmSlots === 0 || model.embedding !== undefined) return { slots };
  return { slots, prefixCache: new PrefixCache({ slots, longAfterTokens: longContext?.after ?? null }) };
}
