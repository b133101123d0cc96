/**
 * Qwen3-MoE: Qwen3's block with experts.
 *
 * Source  transformers: configuration_qwen3_moe.py, modeling_qwen3_moe.py
 */
import { type Family, readDecoderShape } from './decoder-shape.js';
import { readExperts, readSparseLayers } from './experts.js';
import { requireValue } from './known-keys.js';
import { QWEN_EXPERTS } from './qwen2-moe.js';

export const family: Family = {
  architectures: ['Qwen3MoeForCausalLM'],
  modelTypes: ['qwen3_moe'],
  shape(config) {
    requireValue(config, 'use_sliding_window', false);
    const attentionBias = config.boolean('attention_bias', false);
    return readDecoderShape(config, {
      honours: ['num_experts', 'num_local_experts'],
      biases: { qkv: attentionBias, attentionOut: attentionBias },
      headNorm: 'per-head',
      defaultKvHeads: 4,
      experts: readExperts(
        config,
        {
          count: config.has('num_experts') ? 'num_experts' : 'num_local_experts',
          ffnSize: 'moe_intermediate_size',
        },
        {
          normalised: config.boolean('norm_topk_prob', false),
          sharedFfnSize: null,
          layers: readSparseLayers(config),
        },
      ),
      layer: { experts: QWEN_EXPERTS },
    });
  },
};
