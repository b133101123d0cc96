/**
 * Keys of a model that say what it is computed on, and of the server where that finds its libraries.
 *
 * Source  DJLServing (load_on_devices, gpu.minWorkers, gpu.maxWorkers), vLLM (gpu_memory_utilization)
 */
import type { ModelConfig } from './config.js';
import { type KeyRow, modelKey, serverKey } from './key-row.js';
import { choice, folder, gpuNumbers, integer, share } from './value-types.js';

const workers = integer(0, 64);

export const DEVICE_KEYS: readonly KeyRow[] = [
  modelKey(
    'option.device',
    'device',
    choice<ModelConfig['device']>({
      auto: { value: 'auto' },
      cpu: { value: 'cpu' },
      webgpu: { value: 'webgpu' },
      gpu: { value: 'webgpu' },
      cuda: { value: 'cuda' },
    }),
    'auto',
    "what a model is computed on (ours): cpu; webgpu (gpu): the GPU that Vulkan finds first, in float32; cuda: NVIDIA's GPUs, one a rank, attention in halves (`shardserve gpu install` first); neither was yet run on hardware; auto: the CPU",
  ),
  modelKey(
    'load_on_devices',
    'loadOnDevices',
    gpuNumbers(),
    null,
    'GPUs that the model may have, of those that are visible, with option.device=cuda; each worker group takes tensor_parallel_degree of them; cpu or -1: none',
  ),
  modelKey(
    'option.gpu_memory_utilization',
    'gpuMemoryShare',
    share(),
    0.9,
    "share of a GPU's free memory that weights, KV cache and workspace of a rank may take (vLLM)",
    { env: ['CUDA_MEMORY_FRACTION'] },
  ),
  modelKey('gpu.minWorkers', 'gpuMinWorkers', workers, null, 'minWorkers on GPUs; wins over minWorkers'),
  modelKey(
    'gpu.maxWorkers',
    'gpuMaxWorkers',
    workers,
    null,
    'maxWorkers on GPUs; wins over maxWorkers; default with option.device=cuda: as many groups as there are GPUs for',
  ),
];

/** Their defaults are load-config's. */
export const DEVICE_FOLDERS: readonly KeyRow[] = [
  serverKey(
    'cuda_dir',
    'cudaFolder',
    folder(),
    '',
    "folder of CUDA's libraries, which `shardserve gpu install` fetches (ours); default: .cuda/ of a checkout, else $XDG_CACHE_HOME/shardserve/cuda (~/.cache)",
  ),
];
