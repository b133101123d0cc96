/**
 * StableLM: Llama's block with layer norms and a partial rotation; in the 12B side by side, with a norm for every head.
 *
 * Source  transformers: configuration_stablelm.py, modeling_stablelm.py
 */
import { type Family, readDecoderShape } from './decoder-shape.js';

export const family: Family = {
  architectures: ['StableLmForCausalLM'],
  modelTypes: ['stablelm'],
  shape(config) {
    const isParallel = config.boolean('use_parallel_residual', false);
    const hasHeadNorms = config.boolean('qk_layernorm', false);
    return readDecoderShape(config, {
      keys: { normEpsilon: 'layer_norm_eps' },
      honours: ['use_parallel_residual', 'qk_layernorm'],
      norm: { kind: 'layer' },
      defaultEpsilon: 1e-5,
      residual: isParallel ? 'parallel' : 'sequential',
      biases: { qkv: config.boolean('use_qkv_bias', false) },
      headNorm: hasHeadNorms ? 'own-scales' : 'none',
      rope: { defaultPartial: 0.25 },
      layer: {
        queryNorm: 'model.layers.{layer}.self_attn.q_layernorm.norms.{head}',
        keyNorm: 'model.layers.{layer}.self_attn.k_layernorm.norms.{head}',
        ...(isParallel ? { mlpNorm: null } : {}),
      },
    });
  },
};
