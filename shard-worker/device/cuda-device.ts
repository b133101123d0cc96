/**
 * An NVIDIA GPU by CUDA: ONNX Runtime's CUDA provider, in a build of the library that has it.
 *
 * In      the folder with that build and CUDA's libraries (`shardserve gpu install`); NVIDIA's driver; the number of a GPU
 * Out     a remote device: buffers are cudaMalloc's, everything runs in the order of one stream, which the host waits for when it reads
 * Limits  sums over ranks go between the GPUs by NCCL where its library is found, else by way of the host. **Not yet run on hardware**: loading
 *         was tried up to the driver
 * Errors  UNSUPPORTED_PLATFORM naming what is missing: libraries, driver, GPU; an Error with ONNX Runtime's or CUDA's message
 * Source  onnxruntime 1.30: CUDAExecutionProviderInfo (options), run option disable_synchronize_execution_providers
 */
import { CUDA_DRIVER, cudaLibraries, missingCudaFiles } from '../../proto/cuda-libraries.js';
import { loadOrtApi, ORT_DEVICE_ALLOCATOR, ORT_MEMORY_DEFAULT, type OrtApi } from '../ort/ort-api.js';
import { CudaRuntime, loadCudaFunctions, numberAsNvml, preload, unsupported } from './cuda-runtime.js';
import type { DeviceLinks } from './device.js';
import { openNccl } from './nccl.js';
import {
  type OrtProvider,
  type ProviderHost,
  type ProviderMemory,
  RemoteOrtDevice,
} from './remote-ort-device.js';

/** Name of the provider's memory. */
const BUFFER_MEMORY = 'Cuda';
const DRIVER_LIBRARY = 'libcuda.so.1';

export interface CudaDeviceOptions {
  /** Where the libraries are. */
  folder: string;
  /** As CUDA numbers those that are visible. */
  gpu: number;
  logId: string;
}

export class CudaDevice extends RemoteOrtDevice {
  /** @throws ServingError UNSUPPORTED_PLATFORM */
  constructor({ folder, gpu, logId }: CudaDeviceOptions) {
    super(new CudaProvider(folder, gpu), { logId });
  }
}

class CudaProvider implements OrtProvider {
  readonly deviceClass = 'cuda';
  /** By the provider's own options; untried. */
  readonly captureEntry = null;
  readonly links: DeviceLinks | string;
  readonly api: OrtApi;
  readonly #gpu: number;
  readonly #runtime: CudaRuntime;

  constructor(folder: string, gpu: number) {
    const missing = missingCudaFiles(folder);
    if (missing.length > 0) {
      throw unsupported(
        `${missing.length === 1 ? 'a library is' : 'libraries are'} missing in ${folder} (${missing.join(', ')}): ` +
          'npx shardserve gpu install puts them there',
      );
    }
    const { needed, onnxRuntime, runtime } = cudaLibraries(folder);
    numberAsNvml();
    try {
      preload(DRIVER_LIBRARY);
    } catch {
      throw unsupported(
        `no NVIDIA driver (${DRIVER_LIBRARY}); CUDA 13 needs ${CUDA_DRIVER} or a later one, in a container NVIDIA's container toolkit`,
      );
    }
    // Their folder is on no search path; a library that is loaded is found by its name.
    for (const library of needed) preload(library);
    this.#gpu = gpu;
    this.#runtime = new CudaRuntime(loadCudaFunctions(runtime), gpu);
    this.links = openNccl({ folder, cudart: runtime, gpu, runtime: this.#runtime });
    this.api = loadOrtApi(onnxRuntime);
  }

  append(options: number): void {
    const { api } = this;
    const provider = api.create('CreateCUDAProviderOptions');
    const entries = Object.entries(cudaProviderOptions(this.#gpu, this.#runtime.stream));
    const [keys, values] = [entries.map(([key]) => key), entries.map(([, value]) => value)];
    api.call.UpdateCUDAProviderOptions(provider, keys, values, entries.length);
    api.call.SessionOptionsAppendExecutionProvider_CUDA_V2(options, provider);
  }

  open({ api }: ProviderHost): ProviderMemory {
    const runtime = this.#runtime;
    const runOptions = api.create('CreateRunOptions');
    // The stream has everything in its order: only a download waits.
    api.call.AddRunConfigEntry(runOptions, 'disable_synchronize_execution_providers', '1');
    return {
      info: api.create(
        'CreateMemoryInfo',
        BUFFER_MEMORY,
        ORT_DEVICE_ALLOCATOR,
        this.#gpu,
        ORT_MEMORY_DEFAULT,
      ),
      runOptions,
      allocate: (bytes) => runtime.allocate(bytes),
      free: (address) => runtime.free(address),
      upload: (address, data, length) => runtime.upload(address, data, length * data.BYTES_PER_ELEMENT),
      download: (address, data, length) => runtime.download(address, data, length * data.BYTES_PER_ELEMENT),
      close: () => runtime.close(),
    };
  }
}

/** A session has but intermediate values of its own: its memory grows by what is asked for. */
export function cudaProviderOptions(gpu: number, stream: bigint): Record<string, string> {
  return {
    device_id: String(gpu),
    has_user_compute_stream: '1',
    user_compute_stream: String(stream),
    arena_extend_strategy: 'kSameAsRequested',
    do_copy_in_default_stream: '1',
    // Sums in float32, as on the CPU.
    use_tf32: '0',
  };
}
