/**
 * Libraries that the CUDA device loads, in one folder: `shardserve gpu install` puts them there, ranks open them.
 *
 * In      the folder (cuda_dir)
 * Out     their paths; which are missing
 * Source  onnxruntime-gpu 1.30.0: what libonnxruntime_providers_cuda.so is linked with (ldd), and what it opens when it needs it
 */
import { existsSync } from 'node:fs';
import path from 'node:path';

/** ONNX Runtime built for CUDA; it finds its providers beside itself. */
const ONNX_RUNTIME = 'libonnxruntime.so.1.30.0';
const PROVIDERS = ['libonnxruntime_providers_shared.so', 'libonnxruntime_providers_cuda.so'];
/** cudart: allocation and copies. */
const RUNTIME = 'libcudart.so.13';
/** Sums between GPUs; without it they go by way of the host. */
export const NCCL_LIBRARY = 'libnccl.so.2';
/** In the order in which they need one another. */
const NEEDED = [RUNTIME, 'libcublasLt.so.13', 'libcublas.so.13', 'libcurand.so.10'];

export interface CudaLibraries {
  onnxRuntime: string;
  runtime: string;
  /** To be loaded before ONNX Runtime's provider, in this order. */
  needed: readonly string[];
}

/** Files that must be in the folder. */
export const CUDA_FILES: readonly string[] = [ONNX_RUNTIME, ...PROVIDERS, ...NEEDED];

/** CUDA 13 asks for it. */
export const CUDA_DRIVER = '580';

export function cudaLibraries(folder: string): CudaLibraries {
  const at = (name: string): string => path.join(folder, name);
  return { onnxRuntime: at(ONNX_RUNTIME), runtime: at(RUNTIME), needed: NEEDED.map(at) };
}

export const missingCudaFiles = (folder: string): string[] =>
  CUDA_FILES.filter((name) => !existsSync(path.join(folder, name)));
