/**
 * Mistral: Llama's block; a sliding window, where there is one, on every layer.
 *
 * Source  transformers: configuration_mistral.py, modeling_mistral.py
 */
import { type Family, readDecoderShape, readWindowSize, readWindows } from './decoder-shape.js';

export const family: Family = {
  architectures: ['MistralForCausalLM'],
  modelTypes: ['mistral'],
  shape(config) {
    return readDecoderShape(config, {
      windows: readWindows(config, readWindowSize(config), () => true),
      defaultKvHeads: 8,
    });
  },
};
