/**
 * GLM-4.5 and 4.6 (Air too): Llama's block; half a head rotated, norms of heads in the larger ones, experts chosen by sigmoids and a bias, and
 * one that every token visits.
 *
 * Source  transformers: configuration and modeling of glm4_moe
 */
import { type Family, readDecoderShape } from './decoder-shape.js';
import {
  behindTheLast,
  DEEPSEEK_EXPERTS,
  readDeepseekExperts,
  readLaterLayers,
  readSigmoidRouting,
} from './experts.js';

export const family: Family = {
  architectures: ['Glm4MoeForCausalLM'],
  modelTypes: ['glm4_moe'],
  shape(config) {
    return readDecoderShape(config, {
      honours: ['n_routed_experts', 'use_qk_norm'],
      defaultEpsilon: 1e-5,
      // The output projection has none, whatever config.json says.
      biases: { qkv: config.boolean('attention_bias', false) },
      defaultKvHeads: 8,
      rope: { defaultPartial: 0.5 },
      headNorm: config.boolean('use_qk_norm', false) ? 'per-head' : 'none',
      experts: readDeepseekExperts(config, {
        normalised: config.boolean('norm_topk_prob', true),
        routing: (count) => readSigmoidRouting(config, count),
        defaultShared: 1,
        layers: readLaterLayers(config, 'first_k_dense_replace', 1),
      }),
      names: { ignored: [behindTheLast(config)] },
      layer: { experts: DEEPSEEK_EXPERTS },
    });
  },
};
