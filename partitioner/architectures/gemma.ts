/**
 * Gemma (1): Llama's block with a scaled embedding, norms of 1 + weight and a gated GELU.
 *
 * Source  transformers: configuration_gemma.py, modeling_gemma.py (the embedding's scale in float32: transformers rounds it to
 *         the type it computes in)
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { type Family, type FamilyTraits, readDecoderShape } from './decoder-shape.js';

/** What all Gemmas share. */
export function gemmaTraits(config: CheckpointConfig): FamilyTraits {
  const attentionBias = config.boolean('attention_bias', false);
  return {
    norm: { plusOne: true },
    biases: { qkv: attentionBias, attentionOut: attentionBias },
    defaultHeadDim: 256,
    embeddingScale: (hiddenSize) => Math.fround(Math.sqrt(hiddenSize)),
    defaultTiedHead: true,
    defaultActivation: 'gelu_pytorch_tanh',
  };
}

export const family: Family = {
  architectures: ['GemmaForCausalLM'],
  modelTypes: ['gemma'],
  shape(config) {
    // "gelu" is what the first releases said; the tanh form is what they were trained with, and what transformers takes it for.
    const isLegacy = config.nullableString('hidden_act') === 'gelu';
    return readDecoderShape(config, {
      ...gemmaTraits(config),
      ...(isLegacy ? { activation: 'gelu-tanh' as const } : {}),
    });
  },
};
