/**
 * What a worker group takes of this machine's memory, and whether there is as much.
 *
 * In      bytes by what they are for; free memory
 * Out     nothing, where it fits
 * Errors  OUT_OF_MEMORY with need, have and the key to change
 * Pure
 */
import { ServingError } from '../../proto/errors.js';

export const MIB = 1024 * 1024;

export interface MemoryNeed {
  weightBytes: number;
  kvBytes: number;
  workspaceBytes: number;
  totalBytes: number;
}

/** @throws ServingError OUT_OF_MEMORY */
export function checkMemory(
  model: string,
  need: MemoryNeed,
  freeBytes: number,
  config: { requiredMemoryMb: number; reservedMemoryMb: number; preemptionMode?: 'recompute' | 'swap' },
): void {
  if (freeBytes - need.totalBytes >= config.reservedMemoryMb * MIB) return;
  const up = (bytes: number): number => Math.ceil(bytes / MIB);
  const { kvBytes, totalBytes, weightBytes, workspaceBytes } = need;
  const parts =
    config.requiredMemoryMb > 0
      ? 'required_memory_mb says so'
      : `weights ${up(weightBytes)}, KV cache ${up(kvBytes)}, workspace ${up(workspaceBytes)}`;
  const haveMb = Math.floor(Math.max(0, freeBytes) / MIB);
  // Without any KV cache it would still not fit.
  const weightsAlone = freeBytes - (totalBytes - kvBytes) < config.reservedMemoryMb * MIB;
  const change =
    config.requiredMemoryMb > 0
      ? 'lower required_memory_mb or reserved_memory_mb'
      : weightsAlone
        ? 'take a smaller option.dtype (int8, int4), or lower reserved_memory_mb'
        : `lower option.kv_cache_memory_mb${config.preemptionMode === 'swap' ? ' or option.swap_space' : ''}`;
  throw new ServingError(
    'OUT_OF_MEMORY',
    `No enough memory to load the model. A worker group of ${model} needs ${up(totalBytes)} MiB (${parts}), but ${haveMb} ` +
      `MiB are free, of which reserved_memory_mb=${config.reservedMemoryMb} must stay so: ${change}`,
  );
}
