/**
 * What a model's ranks compute on.
 *
 * In      option.device
 * Out     for the partitioner, the worker's launch, and the memory that is counted
 */
import type { ModelConfig } from '../../config/config.js';

export const deviceClassOf = ({ device }: Pick<ModelConfig, 'device'>): 'cpu' | 'webgpu' | 'cuda' =>
  device === 'auto' ? 'cpu' : device;
