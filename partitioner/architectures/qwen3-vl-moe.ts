/**
 * Qwen3-VL's mixtures, text alone: Qwen3-MoE whose experts are matrices of a stack, stored [in, out].
 *
 * Limits  images are not read; only the published layout of the stacks
 * Source  transformers: configuration_qwen3_vl_moe.py, modeling_qwen3_vl_moe.py, conversion_mapping.py
 */
import type { Place } from '../plan/model-shape.js';
import { type Family, readDecoderShape } from './decoder-shape.js';
import { readExperts, readSparseLayers } from './experts.js';
import { textConfig, textPart } from './text-part.js';

const DEFAULTS = { rope_theta: 500_000, num_experts_per_tok: 4 };
const MLP = 'model.layers.{layer}.mlp';

export const family: Family = {
  architectures: ['Qwen3VLMoeForConditionalGeneration'],
  modelTypes: ['qwen3_vl_moe'],
  shape(given) {
    const config = textConfig(given, { defaults: DEFAULTS, defaultTiedHead: true });
    const attentionBias = config.boolean('attention_bias', false);
    const ffnSize = config.positiveInteger('moe_intermediate_size');
    const stacked = (tensor: string, half: 0 | 1 | null): Place => ({
      stem: `${MLP}.experts.${tensor}`,
      endings: { weight: '', bias: '' },
      stacked: true,
      rows: half === null ? null : { unitRows: ffnSize, groupUnits: 2, firstUnit: half, units: 1 },
      transposed: true,
    });
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
          gate: stacked('gate_up_proj', 0),
          up: stacked('gate_up_proj', 1),
          down: stacked('down_proj', null),
          shared: null,
        },
      },
    });
    return textPart(shape);
  },
};
