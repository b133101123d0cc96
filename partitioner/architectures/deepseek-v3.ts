/**
 * DeepSeek V3, R1 and V3.1, and what is saved as them (Kimi K2, Moonlight): multi-head latent attention; experts chosen by sigmoids and a bias, of
 * the best groups, and some that every token visits.
 *
 * Source  transformers: configuration and modeling of deepseek_v3
 */
import { type Family, readDecoderShape } from './decoder-shape.js';
import {
  behindTheLast,
  DEEPSEEK_EXPERTS,
  readDeepseekExperts,
  readLaterLayers,
  readSigmoidRouting,
} from './experts.js';
import { requireValue } from './known-keys.js';
import { latentTraits } from './latent-attention.js';

export const family: Family = {
  architectures: ['DeepseekV3ForCausalLM'],
  modelTypes: ['deepseek_v3', 'kimi_k2'],
  shape(config) {
    requireValue(config, 'scoring_func', 'sigmoid');
    requireValue(config, 'topk_method', 'noaux_tc');
    requireValue(config, 'moe_layer_freq', 1);
    const { layer, ...attention } = latentTraits(config, {
      interleaved: config.boolean('rope_interleave', true),
      defaultQueryRank: 1536,
    });
    return readDecoderShape(config, {
      ...attention,
      honours: ['n_routed_experts'],
      experts: readDeepseekExperts(config, {
        normalised: config.boolean('norm_topk_prob', true),
        routing: (count) => readSigmoidRouting(config, count, { groups: 8, chosen: 4, scale: 2.5 }),
        defaultShared: 1,
        layers: readLaterLayers(config, 'first_k_dense_replace', 3),
      }),
      names: { ignored: [behindTheLast(config)] },
      layer: { ...layer, experts: DEEPSEEK_EXPERTS },
    });
  },
};
