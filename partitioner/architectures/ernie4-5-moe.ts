/**
 * ERNIE 4.5 mixtures (21B-A3B, 300B-A47B): ERNIE 4.5's block with experts chosen by a softmax and a bias, and some that every token visits.
 *
 * Source  transformers: configuration and modeling of ernie4_5_moe, and its conversion of published names
 */
import { type Family, readDecoderShape } from './decoder-shape.js';
import { DEEPSEEK_EXPERTS, readExperts } from './experts.js';
import { requireValue } from './known-keys.js';

export const family: Family = {
  architectures: ['Ernie4_5_MoeForCausalLM'],
  modelTypes: ['ernie4_5_moe'],
  shape(config) {
    requireValue(config, 'use_bias', false);
    // The least that weights of the chosen are divided by: so small that it does not show.
    requireValue(config, 'moe_norm_min', 1e-12);
    const numLayers = config.positiveInteger('num_hidden_layers');
    const first = config.number('moe_layer_start_index', 1);
    const given = config.number('moe_layer_end_index', -1);
    const last = given === -1 ? numLayers - 1 : given;
    const interval = config.positiveInteger('moe_layer_interval', 1);
    const shared = config.number('moe_num_shared_experts', 2);
    return readDecoderShape(config, {
      defaultEpsilon: 1e-5,
      defaultKvHeads: 4,
      rope: { defaultTheta: 500_000, interleaved: true },
      defaultTiedHead: true,
      experts: readExperts(
        config,
        { count: 'moe_num_experts', ffnSize: 'moe_intermediate_size', perToken: 'moe_k' },
        {
          normalised: true,
          sharedFfnSize: shared === 0 ? null : shared * config.positiveInteger('moe_intermediate_size'),
          layers: Array.from(
            { length: Math.min(numLayers, 1024) },
            (_, layer) => (layer + 1) % interval === 0 && layer >= first && layer <= last,
          ),
        },
      ),
      names: { ignored: [/^model\.mtp_/] },
      layer: {
        experts: {
          ...DEEPSEEK_EXPERTS,
          choiceBias: {
            stem: 'model.layers.{layer}.mlp.moe_statics.e_score_correction_bias',
            endings: { weight: '', bias: '' },
            rows: null,
            transposed: false,
            isRow: true,
          },
          shared: shared === 0 ? null : DEEPSEEK_EXPERTS.shared,
        },
      },
    });
  },
};
