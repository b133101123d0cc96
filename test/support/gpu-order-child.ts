/**
 * Prints, a GPU a line, what NVML and CUDA tell of the memory that is free on the one that ranks are given by that number: "NVML CUDA".
 *
 * In      LD_LIBRARY_PATH: where the libraries are; the path of CUDA's runtime
 */
import { openNvml } from '../../server/machine/nvml.js';
import { CudaRuntime, loadCudaFunctions } from '../../shard-worker/device/cuda-runtime.js';

const gpus = openNvml().nvml?.gpus() ?? [];
const functions = loadCudaFunctions(process.argv[2]!);
for (const { freeBytes, index } of gpus) {
  console.log(freeBytes, new CudaRuntime(functions, index).memory().freeBytes);
}
