/**
 * The sizes of every group of a pool: slots, positions, tokens of a step, KV tokens, memory.
 *
 * In      ModelConfig; sizes of the model on its ranks; free memory
 * Out     GroupSizes
 * Limits  a text to embed runs in one step, so it has at most MAX_STEP_TOKENS tokens
 * Errors  OUT_OF_MEMORY
 * Pure    free memory is an argument
 */
import { ServingError } from '../../../proto/errors.js';
import { MAX_STEP_TOKENS } from '../../../proto/limits.js';
import { KV_PAGE_TOKENS, roundUpToPages, type SwapLimits } from '../../batching/slot-table.js';
import type { ModelConfig } from '../../config/config.js';
import type { MemoryNeed } from '../../machine/memory-need.js';
import type { AdmissionLimits } from './admission.js';
import { deviceClassOf } from './device-class.js';
import { kvTokens } from './kv-memory.js';
import { type ModelSizes, memoryNeed } from './model-sizes.js';

/** Prompt tokens of one step at most: more at once is no faster, and their activations are memory. */
const MAX_PREFILL_TOKENS = 512;

/** Sequences of full length that KV memory is for, unless somebody asks for others. */
const USUAL_SLOTS = 32;
/** Most are shorter: in the same memory so many run at once, where each could have USUAL_TOKENS. Who needs more has others wait. */
const MOST_USUAL_SLOTS = 128;
const USUAL_TOKENS = 512;

/**
 * Tokens of one step that are guessed, or known before they are chosen: with more rows than some dozen a step is no longer bound by reading
 * weights, and a wrong guess costs time.
 */
const MAX_DRAFTS = 32;

/** A server that runs one sequence at a time still talks to several people. */
const MIN_WARM_SLOTS = 8;

export interface GroupSizes extends AdmissionLimits {
  maxSlots: number;
  /** Slots for rows of sequences that ended; 0: no prefix cache. */
  warmSlots: number;
  /** Rows of preempted sequences that are kept beside those of the ones that run. */
  swap: SwapLimits;
  maxStepTokens: number;
  /** Guessed ones among those. */
  maxDrafts: number;
  need: MemoryNeed;
}

/** @throws ServingError OUT_OF_MEMORY when not even a page of KV memory fits */
export function groupSizes(config: ModelConfig, sizes: ModelSizes, freeBytes: number): GroupSizes {
  const askedSlots = config.batching === 'rolling' ? config.maxRollingBatchSize : config.batchSize;
  const fullSlots = askedSlots ?? USUAL_SLOTS;
  const { contextLength, textTokens } = sizes;
  const usual = textTokens === null ? contextLength : Math.min(textTokens, MAX_STEP_TOKENS);
  const most = textTokens === null ? contextLength : Math.min(contextLength, MAX_STEP_TOKENS);
  const slotTokens = Math.min(config.maxModelLen ?? usual, most);
  const wholeText = textTokens === null ? 0 : slotTokens;
  const isRemote = deviceClassOf(config) !== 'cpu';
  // A slot is but address space: as many as may run at once, so that a full house finds what it left behind.
  const warmBeside = (slots: number): number => (config.prefixCaching ? Math.max(MIN_WARM_SLOTS, slots) : 0);
  const kv = kvTokens(sizes, {
    configuredMb: config.kvCacheMemoryMb,
    availableBytes: freeBytes,
    reservedMb: config.reservedMemoryMb,
    maxGroups: config.maxGroups,
    // On a device of its own memory a slot is memory for its full length, a warm one as well.
    maxSlots: isRemote ? fullSlots + warmBeside(fullSlots) : fullSlots,
    slotTokens,
  });
  // A text to embed runs in one step, and on a device a slot has its full length: more of them at once are of no use.
  const isShared = textTokens === null && !isRemote;
  const usualSlots = isShared ? Math.floor(kv / Math.min(slotTokens, USUAL_TOKENS)) : USUAL_SLOTS;
  const maxSlots = askedSlots ?? Math.min(Math.max(usualSlots, USUAL_SLOTS), MOST_USUAL_SLOTS);
  const maxDrafts = textTokens === null ? MAX_DRAFTS : 0;
  const maxStepTokens = Math.min(
    MAX_STEP_TOKENS,
    Math.max(maxSlots + maxDrafts + MAX_PREFILL_TOKENS, wholeText),
  );
  // On a device nobody is preempted.
  const swap = isRemote ? { slots: 0, kvTokens: 0 } : swapLimits(config, sizes, maxSlots, slotTokens);
  const kvAndSwap = { kvTokens: kv + swap.kvTokens, maxStepTokens };
  const need = memoryNeed(sizes, kvAndSwap, config.requiredMemoryMb);
  const warm = warmBeside(maxSlots);
  const shared = { slotTokens, maxStepTokens, maxDrafts, swap, kvTokens: kv, need };
  if (!isRemote) return { maxSlots, warmSlots: warm, ...shared };
  const slots = wholeSlots(kv, slotTokens, deviceClassOf(config));
  const running = Math.min(maxSlots, slots);
  const warmSlots = Math.min(warm, slots - running);
  return { maxSlots: running, warmSlots, ...shared };
}

/** No more than all slots at full length take. */
function swapLimits(
  { preemptionMode, swapSpaceGb }: ModelConfig,
  { kvBytesPerToken, textTokens, worldSize }: ModelSizes,
  maxSlots: number,
  slotTokens: number,
): SwapLimits {
  if (preemptionMode === 'recompute' || textTokens !== null || kvBytesPerToken === 0)
    return { slots: 0, kvTokens: 0 };
  const pages = Math.floor((swapSpaceGb * 2 ** 30 * worldSize) / (kvBytesPerToken * KV_PAGE_TOKENS));
  return {
    slots: maxSlots,
    kvTokens: Math.min(pages * KV_PAGE_TOKENS, maxSlots * roundUpToPages(slotTokens)),
  };
}

/** Slots of full length that the KV memory has. @throws ServingError OUT_OF_MEMORY: none */
function wholeSlots(tokens: number, slotTokens: number, device: string): number {
  const slots = Math.floor(tokens / roundUpToPages(slotTokens));
  if (slots > 0) return slots;
  throw new ServingError(
    'OUT_OF_MEMORY',
    `On ${device} a sequence takes the memory of its full length, ${slotTokens} tokens, but the KV memory holds ${tokens}: ` +
      'lower option.max_model_len or raise option.kv_cache_memory_mb',
  );
}
