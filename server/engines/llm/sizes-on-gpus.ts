/**
 * The sizes of a group whose ranks have a GPU each: its memory is the GPUs', and the host keeps little.
 *
 * In      ModelConfig, sizes of the model, the machine's GPUs
 * Out     GroupSizes; `need` is the host's
 * Limits  option.gpu_memory_utilization of what is free on the fullest GPU that the model may have
 * Errors  CONFIG_INVALID: fewer GPUs than the degree; OUT_OF_MEMORY with need and have
 */
import type { ModelConfig } from '../../config/config.js';
import type { MachineGpus } from '../../machine/machine-gpus.js';
import { checkMemory, type MemoryNeed, MIB } from '../../machine/memory-need.js';
import { deviceClassOf } from './device-class.js';
import { type GroupSizes, groupSizes } from './group-sizes.js';
import type { ModelSizes } from './model-sizes.js';

/** A rank's process with CUDA's libraries and staging buffers. Not seen on hardware: what others report of such processes. */
const RANK_HOST_BYTES = 1024 * MIB;

/** On the model's device. @throws ServingError */
export function sizesOnDevice(
  config: ModelConfig,
  sizes: ModelSizes,
  freeBytes: number,
  gpus: MachineGpus | null,
): GroupSizes {
  if (deviceClassOf(config) !== 'cuda' || gpus === null) return groupSizes(config, sizes, freeBytes);
  const { worldSize } = sizes;
  gpus.groups(worldSize, config.gpus);
  const free = gpus.freeBytes(config.gpus) * config.gpuMemoryShare * worldSize;
  const onGpus = { ...config, maxGroups: 1, requiredMemoryMb: 0, reservedMemoryMb: 0 };
  const found = groupSizes(onGpus, sizes, free);
  checkMemory(`${config.name} on ${worldSize} GPU${worldSize === 1 ? '' : 's'}`, found.need, free, onGpus);
  return { ...found, need: hostNeed(config, worldSize) };
}

function hostNeed({ requiredMemoryMb }: ModelConfig, worldSize: number): MemoryNeed {
  const bytes = requiredMemoryMb > 0 ? requiredMemoryMb * MIB : worldSize * RANK_HOST_BYTES;
  return { weightBytes: 0, kvBytes: 0, workspaceBytes: bytes, totalBytes: bytes };
}
