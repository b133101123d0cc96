/**
 * Cohere (Command R, Command R+, Aya 23): attention and MLP side by side behind one layer norm without bias, neighbouring pairs
 * rotated, scaled logits; in the larger ones a norm of every head's query and key.
 *
 * Source  transformers: configuration_cohere.py, modeling_cohere.py
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { type Family, type FamilyTraits, readDecoderShape } from './decoder-shape.js';

/** What Cohere 1 and 2 share. */
export function cohereTraits(config: CheckpointConfig): FamilyTraits {
  const attentionBias = config.boolean('attention_bias', false);
  return {
    keys: { normEpsilon: 'layer_norm_eps' },
    norm: { kind: 'layer', hasBias: false },
    defaultEpsilon: 1e-5,
    residual: 'parallel',
    biases: { qkv: attentionBias, attentionOut: attentionBias },
    logitScale: config.positiveNumber('logit_scale', 0.0625),
    defaultTiedHead: true,
    layer: { mlpNorm: null },
  };
}

export const family: Family = {
  architectures: ['CohereForCausalLM'],
  modelTypes: ['cohere'],
  shape(config) {
    return readDecoderShape(config, {
      ...cohereTraits(config),
      honours: ['logit_scale', 'use_qk_norm'],
      headNorm: config.boolean('use_qk_norm', false) ? 'own-scales' : 'none',
      rope: { defaultTheta: 500_000, interleaved: true },
    });
  },
};
