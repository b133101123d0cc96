/**
 * SmolLM3: Llama's block; every fourth layer rotates nothing.
 *
 * Source  transformers: configuration_smollm3.py, modeling_smollm3.py
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { type Family, readDecoderShape, readWindowSize, readWindows } from './decoder-shape.js';

const DEFAULT_INTERVAL = 4;

export const family: Family = {
  architectures: ['SmolLM3ForCausalLM'],
  modelTypes: ['smollm3'],
  shape(config) {
    const attentionBias = config.boolean('attention_bias', false);
    const layerRopes = readLayerRopes(config);
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

/** `no_rope_layers` has a 1 for each layer that rotates. */
function readLayerRopes(config: CheckpointConfig): (number | null)[] {
  const numLayers = config.positiveInteger('num_hidden_layers');
  const interval = config.positiveInteger('no_rope_layer_interval', DEFAULT_INTERVAL);
  const flags: unknown = config.raw.no_rope_layers ?? null;
  if (flags === null) {
    return Array.from({ length: Math.min(numLayers, 1024) }, (_, layer) =>
      (layer + 1) % interval === 0 ? null : 0,
    );
  }
  if (!Array.isArray(flags) || flags.length !== numLayers || flags.some((flag) => flag !== 0 && flag !== 1)) {
    throw config.wrong('no_rope_layers', `0 or 1 for each of ${numLayers} layers`);
  }
  return flags.map((flag) => (flag === 1 ? 0 : null));
}
