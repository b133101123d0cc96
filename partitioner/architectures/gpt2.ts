/**
 * GPT-2 and what is saved as it (DistilGPT-2, DialoGPT, Cerebras-GPT …): learned positions, layer norms, weights stored [in, out].
 *
 * Source  transformers: configuration_gpt2.py, modeling_gpt2.py (reorder_and_upcast_attn changes rounding only)
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import type { Place } from '../plan/model-shape.js';
import { type Family, type FamilyTraits, readDecoderShape } from './decoder-shape.js';
import { stackedQkv } from './fused-qkv.js';

const turned = (stem: string): Place => ({ stem, rows: null, transposed: true });

/** Names and keys that GPT-2's descendants have kept. */
export const GPT2_KEYS: FamilyTraits['keys'] = {
  hiddenSize: 'n_embd',
  numLayers: 'n_layer',
  numHeads: 'n_head',
  ffnSize: 'n_inner',
  contextLength: 'n_positions',
  activation: 'activation_function',
  normEpsilon: 'layer_norm_epsilon',
};

export const GPT2_NAMES: NonNullable<FamilyTraits['names']> = {
  embedding: 'transformer.wte',
  finalNorm: 'transformer.ln_f',
  // Causal masks that old exports carry.
  ignored: [/\.attn\.(bias|masked_bias|causal_mask)$/],
  renames: [[/^(?=(wte|wpe|h|ln_f)\.)/, 'transformer.']],
};

export const GPT2_TRAITS: FamilyTraits = {
  keys: GPT2_KEYS,
  norm: { kind: 'layer' },
  defaultEpsilon: 1e-5,
  biases: { qkv: true, attentionOut: true, mlp: true },
  defaultFfnFactor: 4,
  defaultActivation: 'gelu_new',
  gated: false,
  rope: null,
  defaultTiedHead: true,
  names: { ...GPT2_NAMES, positions: 'transformer.wpe' },
};

/** Scores: scale_attn_weights switches 1/sqrt(headDim) on, scale_attn_by_inverse_layer_idx 1/(layer + 1). */
export function gpt2QueryScale(config: CheckpointConfig): NonNullable<FamilyTraits['queryScale']> {
  const isScaled = config.boolean('scale_attn_weights', true);
  const isByLayer = config.boolean('scale_attn_by_inverse_layer_idx', false);
  return (layer, headDim) => (isScaled ? 1 / Math.sqrt(headDim) : 1) / (isByLayer ? layer + 1 : 1);
}

export const family: Family = {
  architectures: ['GPT2LMHeadModel'],
  modelTypes: ['gpt2'],
  shape(config) {
    return readDecoderShape(config, {
      ...GPT2_TRAITS,
      honours: ['scale_attn_weights', 'scale_attn_by_inverse_layer_idx'],
      queryScale: gpt2QueryScale(config),
      qkv: (sizes) => stackedQkv('transformer.h.{layer}.attn.c_attn', sizes, true),
      layer: {
        attentionNorm: 'transformer.h.{layer}.ln_1',
        attentionOut: turned('transformer.h.{layer}.attn.c_proj'),
        mlpNorm: 'transformer.h.{layer}.ln_2',
        up: turned('transformer.h.{layer}.mlp.c_fc'),
        down: turned('transformer.h.{layer}.mlp.c_proj'),
      },
    });
  },
};
