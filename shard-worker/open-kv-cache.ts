/**
 * The cache of a rank, of its device's kind.
 *
 * Errors  UNSUPPORTED_PLATFORM: another type than the shards' graphs have, on a device with memory of its own
 */
import { ServingError } from '../proto/errors.js';
import type { Manifest } from '../proto/manifest.js';
import type { Device } from './device/device.js';
import { KvCache, type KvType, kvCacheShape } from './kv-cache.js';
import { COPY_INPUTS, RemoteKvCache } from './remote-kv-cache.js';
import { readSegment } from './shard-files.js';

export interface OpenKvCacheOptions {
  device: Device;
  manifest: Manifest;
  shardFolder: string;
  rank: number;
  maxSlots: number;
  slotTokens: number;
  /** Absent: fp32 on the CPU, else what the shards' graphs have. */
  type?: KvType;
}

/** @throws ServingError */
export function openKvCache(options: OpenKvCacheOptions): KvCache | RemoteKvCache {
  const { device, manifest, rank, shardFolder, type, ...sizes } = options;
  const shape = kvCacheShape(manifest);
  if (!device.isRemote) return new KvCache({ ...shape, ...sizes, device, type: type ?? 'fp32' });
  const cacheType = manifest.attend.cacheType ?? 'float32';
  const own = cacheType === 'float16' ? 'fp16' : 'fp32';
  if (type !== undefined && type !== own) {
    const message = `option.kv_cache_dtype=${type} is for the CPU; ${device.deviceClass} keeps keys and values as ${own}`;
    throw new ServingError('UNSUPPORTED_PLATFORM', message);
  }
  return new RemoteKvCache({
    ...{ ...shape, ...sizes, device, type: cacheType },
    loadCopy: () => {
      const name = manifest.attend.copyRows ?? '';
      return device.loadSegment(readSegment(shardFolder, rank, name), shardFolder, COPY_INPUTS, ['copied']);
    },
  });
}
