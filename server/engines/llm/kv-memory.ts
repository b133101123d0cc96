/**
 * How many tokens the KV memory of one group holds.
 *
 * In      the model's sizes, the configured megabytes, free memory
 * Out     tokens over all sequences of the group
 * Limits  never more than every slot at full length can use
 * Errors  OUT_OF_MEMORY: not even one page of tokens fits
 * Pure    free memory is an argument
 */
import { ServingError } from '../../../proto/errors.js';
import { KV_PAGE_TOKENS, roundUpToPages } from '../../batching/slot-table.js';
import { MIB } from '../../machine/memory-need.js';
import type { ModelSizes } from './model-sizes.js';

/** Share of the memory left after the weights, when nothing is configured: the rest is for activations and neighbours. */
const DEFAULT_SHARE = 0.4;

export interface KvOptions {
  /** option.kv_cache_memory_mb, of one group; null: a share of what the weights leave free. */
  configuredMb: number | null;
  /** Before the weights are loaded. */
  availableBytes: number;
  /** So much of it is left alone. */
  reservedMb: number;
  /** Groups that shall find room: the share is divided among them. */
  maxGroups: number;
  maxSlots: number;
  slotTokens: number;
}

export function kvTokens(
  { kvBytesPerToken, weightBytes }: Pick<ModelSizes, 'kvBytesPerToken' | 'weightBytes'>,
  options: KvOptions,
): number {
  const { availableBytes, configuredMb, reservedMb } = options;
  const most = options.maxSlots * roundUpToPages(options.slotTokens);
  // An encoder keeps none.
  if (kvBytesPerToken === 0) return most;
  const groups = Math.max(1, options.maxGroups);
  const share =
    (Math.max(0, availableBytes - reservedMb * MIB - groups * weightBytes) * DEFAULT_SHARE) / groups;
  const bytes = configuredMb === null ? share : configuredMb * MIB;
  const pages = Math.floor(bytes / (kvBytesPerToken * KV_PAGE_TOKENS));
  if (pages < 1) {
    const need = Math.ceil((kvBytesPerToken * KV_PAGE_TOKENS) / MIB);
    throw new ServingError(
      'OUT_OF_MEMORY',
      configuredMb === null
        ? `No enough memory to load the model. The KV cache needs at least ${need} MiB, but of ${Math.floor(Math.max(0, availableBytes) / MIB)} ` +
            `MiB that are free reserved_memory_mb=${reservedMb} must stay so, and the weights of ${groups} worker ` +
            `group${groups === 1 ? '' : 's'} take ${Math.ceil((groups * weightBytes) / MIB)}: take a smaller option.dtype (int8, int4) ` +
            'or fewer maxWorkers, or lower reserved_memory_mb'
        : `option.kv_cache_memory_mb is ${configuredMb}, but ${KV_PAGE_TOKENS} tokens need ${need}`,
    );
  }
  return Math.min(pages * KV_PAGE_TOKENS, most);
}
