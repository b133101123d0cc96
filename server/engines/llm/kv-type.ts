/**
 * What a model's keys and values are held as.
 *
 * In      option.kv_cache_dtype; whether this machine has our own kernels: ONNX Runtime's attention on the CPU and by WebGPU reads floats
 *         only, CUDA's halves only
 * Out     for the worker's launch, and for the memory that is counted
 */
import { kernelLibrary } from '../../../proto/kernel-library.js';
import { kvRowBytes } from '../../../proto/kv-rows.js';
import type { WorkerLaunch } from '../../../proto/worker-launch.js';
import type { ModelConfig } from '../../config/config.js';
import { deviceClassOf } from './device-class.js';
import type { ModelSizes } from './model-sizes.js';

type KvType = NonNullable<WorkerLaunch['kvType']>;

export function kvTypeOf(config: Pick<ModelConfig, 'kvCacheDtype' | 'device'>): KvType {
  switch (deviceClassOf(config)) {
    case 'cuda':
      return 'fp16';
    case 'webgpu':
      return 'fp32';
    case 'cpu':
      return config.kvCacheDtype === 'auto' || kernelLibrary() === null ? 'fp32' : config.kvCacheDtype;
  }
}

/** A plan does not tell how wide heads are; few are narrower, so its bytes are rather too many. */
const NARROW_HEAD = 32;

/** Sizes of a plan or manifest count floats. @param headDim of a manifest */
export const withKvType = (sizes: ModelSizes, type: KvType, headDim = NARROW_HEAD): ModelSizes => ({
  ...sizes,
  kvBytesPerToken: (sizes.kvBytesPerToken * kvRowBytes(type, headDim)) / kvRowBytes('fp32', headDim),
});
