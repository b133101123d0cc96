/**
 * Qwen3-VL's mixtures, text alone: Qwen3-MoE whose experts are matrices of a stack, stored [in, out].
 *
 * Limits  images are not read; only the published layout of the stacks
 * Source  transformers: configuration_qwen3_vl_moe.py, modeling_qwen3_vl_moe.py, conversion_mapping.py
 */
import { type Family, readDecoderShape } from './decoder-shape.js';
import { readExperts, readSparseLayers, stackedExperts } from './experts.js';
import { textConfig, textPart } from './text-part.js';

const DEFAULTS = { rope_theta: 500_000, num_experts_per_tok: 4 };
const MLP = 'model.layers.{layer}.mlp';

export const family: Family = {
  architectures: ['Qwen3VLMoeForConditionalGeneration'],
  modelTypes: ['qwen3_vl_moe'],
  shape(given) {
    const config = textConfig(given, { defaults: DEFAULTS, defaultTiedHead: true });
    const attentionBias = config.boolean('attention_bias', false);
    const shape = readDecoderShape(config, {
      honours: ['num_experts', 'num_local_experts'],
      biases: { qkv: attentionBias, attentionOut: attentionBias },
      headNorm: 'per-head',
      defaultKvHeads: 16,
      experts: readExperts(
        config,
        {
          count: config.has('num_experts') ? 'num_experts' : 'num_local_experts',
          ffnSize: 'moe_intermediate_size',
        },
        { normalised: true, sharedFfnSize: null, layers: readSparseLayers(config) },
      ),
      layer: {
        experts: {
          router: `${MLP}.gate`,
          choiceBias: null,
          ...stackedExperts(`${MLP}.experts`, config.positiveInteger('moe_intermediate_size'), true),
          shared: null,
        },
      },
    });
    return textPart(shape);
  },
};
