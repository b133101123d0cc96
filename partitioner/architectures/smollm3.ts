/**
 * SmolLM3: Llama's block; every fourth layer rotates nothing.
 *
 * Source  transformers: configuration_smollm3.py, modeling_smollm3.py
 */
import { type Family, readDecoderShape, readWindowSize, readWindows } from './decoder-shape.js';
import { readRotatedLayers } from './rotated-layers.js';

export const family: Family = {
  architectures: ['SmolLM3ForCausalLM'],
  modelTypes: ['smollm3'],
  shape(config) {
    const attentionBias = config.boolean('attention_bias', false);
    const layerRopes = readRotatedLayers(config, false).map((rotates) => (rotates ? 0 : null));
    const window = config.boolean('use_sliding_window', false) ? readWindowSize(config, null) : null;
    return readDecoderShape(config, {
      honours: ['no_rope_layers'],
      biases: { qkv: attentionBias, attentionOut: attentionBias, mlp: config.boolean('mlp_bias', false) },
      defaultKvHeads: 4,
      windows: readWindows(config, window, (layer) => layerRopes[layer] === null),
      rope: { defaultTheta: 2_000_000 },
      layerRopes,
      defaultTiedHead: true,
    });
  },
};
