/**
 * What a model's keys and values are held as.
 *
 * In      option.kv_cache_dtype; whether this machine has our own kernels: ONNX Runtime's attention reads floats only, and a GPU keeps floats
 * Out     for the worker's launch, and for the memory that is counted
 */
import { kernelLibrary } from '../../../proto/kernel-library.js';
import type { ModelConfig } from '../../config/config.js';
import { deviceClassOf } from './device-class.js';
import type { ModelSizes } from './model-sizes.js';

export const kvTypeOf = (config: Pick<ModelConfig, 'kvCacheDtype' | 'device'>): 'fp32' | 'fp16' =>
  config.kvCacheDtype === 'fp16' && deviceClassOf(config) === 'cpu' && kernelLibrary() !== null
    ? 'fp16'
    : 'fp32';

/** Sizes of a plan or manifest count floats. */
export const withKvType = (sizes: ModelSizes, type: 'fp32' | 'fp16'): ModelSizes =>
  type === 'fp32' ? sizes : { ...sizes, kvBytesPerToken: sizes.kvBytesPerToken / 2 };
