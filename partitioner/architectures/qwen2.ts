/**
 * Qwen2 and Qwen2.5: Llama's block with biases on query, key and value; a window on the upper layers if it is switched on.
 *
 * Source  transformers: configuration_qwen2.py, modeling_qwen2.py
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { type Family, readDecoderShape, readWindowSize, readWindows } from './decoder-shape.js';

export const family: Family = {
  architectures: ['Qwen2ForCausalLM'],
  modelTypes: ['qwen2'],
  shape(config) {
    return readDecoderShape(config, {
      biases: { qkv: true },
      windows: readUpperWindows(config),
      defaultKvHeads: 32,
    });
  },
};

/** Qwen's rule: `use_sliding_window` switches it on, for the layers from `max_window_layers` on. */
export function readUpperWindows(config: CheckpointConfig): (number | null)[] {
  const window = config.boolean('use_sliding_window', false) ? readWindowSize(config) : null;
  const first = config.has('max_window_layers') ? config.number('max_window_layers') : 28;
  return readWindows(config, window, (layer) => layer >= first);
}
