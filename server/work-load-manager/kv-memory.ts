/**
 * How many tokens the KV memory of one group holds (design D4).
 *
 * In      the manifest's sizes, the configured megabytes, free memory
 * Out     tokens over all sequences of the group
 * Limits  never more than every slot at full length can use
 * Errors  OUT_OF_MEMORY: not even one page of tokens fits
 * Pure    free memory is an argument
 */
import { ServingError } from '../../proto/errors.js';
import type { Manifest } from '../../proto/manifest.js';
import { KV_PAGE_TOKENS, roundUpToPages } from '../batching/slot-table.js';

const MIB = 1024 * 1024;
/** Keys and values are float32 on the CPU. */
const KV_ELEMENT_BYTES = 4;
/** Share of the memory left after the weights, when nothing is configured: the rest is for activations and neighbours. */
const DEFAULT_SHARE = 0.4;

/** Bytes of the keys and values of one token, over all layers and ranks. */
export function kvBytesPerToken(manifest: Pick<Manifest, 'model' | 'perRank' | 'worldSize'>): number {
  const { model, perRank, worldSize } = manifest;
  return 2 * model.numLayers * perRank.numKvHeads * perRank.headDim * KV_ELEMENT_BYTES * worldSize;
}

/** Bytes of the weights of all ranks; the shared file counts once, since all map the same pages. */
export function weightBytes(manifest: Pick<Manifest, 'ranks' | 'shared'>): number {
  return (manifest.shared?.bytes ?? 0) + manifest.ranks.reduce((sum, rank) => sum + rank.weights.bytes, 0);
}

/**
 * @param configuredMb option.kv_cache_memory_mb; null: a share of what the weights leave free
 * @param availableBytes before the weights are loaded
 */
export function kvTokens(
  manifest: Manifest,
  options: { configuredMb: number | null; availableBytes: number; maxSlots: number; slotTokens: number },
): number {
  const perToken = kvBytesPerToken(manifest);
  const weights = weightBytes(manifest);
  const { availableBytes, configuredMb } = options;
  const bytes =
    configuredMb === null ? Math.max(0, availableBytes - weights) * DEFAULT_SHARE : configuredMb * MIB;
  const pages = Math.floor(bytes / (perToken * KV_PAGE_TOKENS));
  if (pages < 1) {
    const need = Math.ceil((perToken * KV_PAGE_TOKENS) / MIB);
    throw new ServingError(
      'OUT_OF_MEMORY',
      configuredMb === null
        ? `the KV cache needs at least ${need} MiB, but ${Math.floor(availableBytes / MIB)} MiB are free and the weights take ${Math.ceil(weights / MIB)}`
        : `option.kv_cache_memory_mb is ${configuredMb}, but ${KV_PAGE_TOKENS} tokens need ${need}`,
    );
  }
  return Math.min(pages * KV_PAGE_TOKENS, options.maxSlots * roundUpToPages(options.slotTokens));
}
