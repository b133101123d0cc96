/**
 * Qwen1.5-MoE and Qwen2-MoE: Qwen2's block; experts, and one that every token visits.
 *
 * Source  transformers: configuration_qwen2_moe.py, modeling_qwen2_moe.py
 */
import { type Family, readDecoderShape, readWindows } from './decoder-shape.js';
import { readExperts, readSparseLayers } from './experts.js';
import { requireValue } from './known-keys.js';

const LAYER = 'model.layers.{layer}.mlp';

/** What Qwen's mixtures share. */
export const QWEN_EXPERTS = {
  router: `${LAYER}.gate`,
  gate: `${LAYER}.experts.{expert}.gate_proj`,
  up: `${LAYER}.experts.{expert}.up_proj`,
  down: `${LAYER}.experts.{expert}.down_proj`,
  choiceBias: null,
  shared: null,
};

export const family: Family = {
  architectures: ['Qwen2MoeForCausalLM'],
  modelTypes: ['qwen2_moe'],
  shape(config) {
    // Published ones switch it off, and transformers' rule for its layers has changed.
    requireValue(config, 'use_sliding_window', false);
    return readDecoderShape(config, {
      honours: ['num_experts'],
      biases: { qkv: config.boolean('qkv_bias', true) },
      windows: readWindows(config, null, () => false),
      experts: readExperts(
        config,
        { count: 'num_experts', ffnSize: 'moe_intermediate_size' },
        {
          normalised: config.boolean('norm_topk_prob', false),
          sharedFfnSize: config.positiveInteger('shared_expert_intermediate_size'),
          layers: readSparseLayers(config),
        },
      ),
      layer: {
        experts: {
          ...QWEN_EXPERTS,
          shared: {
            router: `${LAYER}.shared_expert_gate`,
            gate: `${LAYER}.shared_expert.gate_proj`,
            up: `${LAYER}.shared_expert.up_proj`,
            down: `${LAYER}.shared_expert.down_proj`,
          },
        },
      },
    });
  },
};
