/**
 * What a model's keys and values are held as.
 *
 * In      option.kv_cache_dtype; whether this machine has our own kernels: ONNX Runtime's attention on the CPU and by WebGPU reads floats
 *         only, CUDA's halves only
 * Out     for the worker's launch, and for the memory that is counted
 */
import { kernelLibrary } from '../../../proto/kernel-library.js';
import type { ModelConfig } from '../../config/config.js';
import { deviceClassOf } from './device-class.js';
import type { ModelSizes } from './model-sizes.js';

export function kvTypeOf(config: Pick<ModelConfig, 'kvCacheDtype' | 'device'>): 'fp32' | 'fp16' {
  switch (deviceClassOf(config)) {
    case 'cuda':
      return 'fp16';
    case 'webgpu':
      return 'fp32';
    case 'cpu':
      return config.kvCacheDtype === 'fp16' && kernelLibrary() !== null ? 'fp16' : 'fp32';
  }
}

/** Sizes of a plan or manifest count floats. */
export const withKvType = (sizes: ModelSizes, type: 'fp32' | 'fp16'): ModelSizes =>
  type === 'fp32' ? sizes : { ...sizes, kvBytesPerToken: sizes.kvBytesPerToken / 2 };
