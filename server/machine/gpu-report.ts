/**
 * What the log says of GPUs when the server starts, and what models are computed on by it.
 *
 * In      NVML; CUDA_VISIBLE_DEVICES, NVIDIA_VISIBLE_DEVICES
 * Out     the GPUs, and a sentence
 *
 * DJLServing takes a GPU where there is one. Here that is asked for (option.device), until a GPU has run it (README).
 */
import { openNvml } from './nvml.js';
import { type Gpu, visibleGpus } from './visible-gpus.js';

const GIB = 1024 ** 3;

export interface GpuReport {
  gpus: Gpu[];
  sentence: string;
  /** The same GPUs, with the memory that is free then. */
  readAgain(): Gpu[];
}

/** NVIDIA's GPUs that this server may use, and what is said of them. */
export function gpuReport(environment: NodeJS.ProcessEnv): GpuReport {
  const { nvml, why } = openNvml();
  const all = nvml?.gpus() ?? [];
  const readAgain = (): Gpu[] => visibleGpus(nvml?.gpus() ?? [], environment);
  const gpus = visibleGpus(all, environment);
  const hidden = `${all.length} are hidden by CUDA_VISIBLE_DEVICES or NVIDIA_VISIBLE_DEVICES`;
  const none = nvml === null ? why : all.length === 0 ? "NVIDIA's driver has none" : hidden;
  return { gpus, sentence: gpuSentence(gpus, none), readAgain };
}

export function gpuSentence(gpus: readonly Gpu[], why: string): string {
  if (gpus.length === 0) return `no NVIDIA GPU is seen: ${why}; models are computed on the CPU`;
  const names = gpus.map(({ name, totalBytes }) =>
    totalBytes === null ? name : `${name}, ${(totalBytes / GIB).toFixed(0)} GiB`,
  );
  const counted = [...new Set(names)].map((name) => {
    const count = names.filter((other) => other === name).length;
    return count === 1 ? name : `${count} × ${name}`;
  });
  return (
    `${counted.join('; ')}: models are computed on the CPU unless option.device says cuda or webgpu, ` +
    'since neither was yet run on hardware (npm run check:device proves it)'
  );
}
