/**
 * DeepSeek V2 and V2.5 (Lite and Coder too): multi-head latent attention; experts chosen by a softmax, of the best groups in the larger ones, and
 * some that every token visits.
 *
 * Source  transformers: configuration and modeling of deepseek_v2
 */
import { type Family, readDecoderShape } from './decoder-shape.js';
import { DEEPSEEK_EXPERTS, readDeepseekExperts, readGroups, readLaterLayers } from './experts.js';
import { requireValue } from './known-keys.js';
import { latentTraits } from './latent-attention.js';

export const family: Family = {
  architectures: ['DeepseekV2ForCausalLM'],
  modelTypes: ['deepseek_v2'],
  shape(config) {
    requireValue(config, 'scoring_func', 'softmax');
    requireValue(config, 'topk_method', 'greedy', 'group_limited_greedy');
    requireValue(config, 'norm_topk_prob', false);
    requireValue(config, 'moe_layer_freq', 1);
    requireValue(config, 'mlp_bias', false);
    const isGrouped = config.string('topk_method', 'greedy') === 'group_limited_greedy';
    const { layer, ...attention } = latentTraits(config, { interleaved: true, defaultQueryRank: 1536 });
    return readDecoderShape(config, {
      ...attention,
      honours: ['n_routed_experts'],
      experts: readDeepseekExperts(config, {
        normalised: false,
        routing: (count) => ({
          scoring: 'softmax',
          groups: isGrouped ? readGroups(config, count, 1) : null,
          scale: config.positiveNumber('routed_scaling_factor', 1),
        }),
        defaultShared: 2,
        layers: readLaterLayers(config, 'first_k_dense_replace', 0),
      }),
      layer: { ...layer, experts: { ...DEEPSEEK_EXPERTS, choiceBias: null } },
    });
  },
};
