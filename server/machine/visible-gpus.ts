/**
 * Which GPUs this server may use: CUDA's and the container runtime's words for it.
 *
 * In      the GPUs that there are; CUDA_VISIBLE_DEVICES, NVIDIA_VISIBLE_DEVICES
 * Out     those that are left, in the order in which they were named; from now on they are numbered from 0
 * Limits  of the parts of GPUs that are cut (MIG) a process sees one, the first, and then no whole GPU
 * Errors  none: CUDA takes a list up to the first entry that names nothing
 * Source  CUDA programming guide, "CUDA environment variables"; NVIDIA container toolkit, NVIDIA_VISIBLE_DEVICES; MIG user guide, "CUDA
 *         device enumeration"
 * Pure
 */
export interface Gpu {
  /** Place among those that the machine has. */
  index: number;
  name: string;
  /** `GPU-…`; of a part `MIG-…`; null: not known. */
  uuid: string | null;
  totalBytes: number | null;
  freeBytes: number | null;
  /** Share of the last moments in which something ran on it. */
  busyShare: number | null;
}

/** In a container there are none, whatever the host has. */
const NONE = ['', 'none', 'void'];

export function visibleGpus(gpus: readonly Gpu[], environment: NodeJS.ProcessEnv): Gpu[] {
  const { CUDA_VISIBLE_DEVICES: cuda, NVIDIA_VISIBLE_DEVICES: nvidia } = environment;
  if (nvidia !== undefined && NONE.includes(nvidia.trim().toLowerCase())) return [];
  if (cuda === undefined) return asCudaSees([...gpus]);
  const chosen: Gpu[] = [];
  for (const entry of cuda.split(',').map((text) => text.trim())) {
    const found = /^\d+$/.test(entry)
      ? gpus.find(({ index }) => index === Number(entry))
      : gpus.find(({ uuid }) => /^(?:GPU|MIG)-/.test(entry) && uuid?.startsWith(entry));
    if (found === undefined || chosen.includes(found)) break;
    chosen.push(found);
  }
  return asCudaSees(chosen);
}

function asCudaSees(gpus: Gpu[]): Gpu[] {
  const part = gpus.find(({ uuid }) => uuid?.startsWith('MIG-'));
  return part === undefined ? gpus : [part];
}
