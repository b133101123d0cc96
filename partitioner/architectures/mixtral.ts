/**
 * Mixtral: Mistral's block with experts instead of the MLP.
 *
 * Source  transformers: configuration_mixtral.py, modeling_mixtral.py
 */
import { type Family, readDecoderShape, readWindowSize, readWindows } from './decoder-shape.js';
import { readExperts } from './experts.js';

export const family: Family = {
  architectures: ['MixtralForCausalLM'],
  modelTypes: ['mixtral'],
  shape(config) {
    const numLayers = config.positiveInteger('num_hidden_layers');
    const layer = 'model.layers.{layer}.block_sparse_moe';
    return readDecoderShape(config, {
      honours: ['num_local_experts'],
      defaultEpsilon: 1e-5,
      defaultKvHeads: 8,
      windows: readWindows(config, readWindowSize(config, null), () => true),
      rope: { defaultTheta: 1_000_000 },
      experts: readExperts(
        config,
        { count: 'num_local_experts', ffnSize: 'intermediate_size' },
        {
          normalised: true,
          sharedFfnSize: null,
          layers: Array.from({ length: Math.min(numLayers, 1024) }, () => true),
        },
      ),
      layer: {
        experts: {
          router: `${layer}.gate`,
          gate: `${layer}.experts.{expert}.w1`,
          up: `${layer}.experts.{expert}.w3`,
          down: `${layer}.experts.{expert}.w2`,
          choiceBias: null,
          shared: null,
        },
      },
    });
  },
};
