/**
 * Granite 3 (dense): Llama's block with multipliers of embedding, scores, branches and logits.
 *
 * Source  transformers: configuration_granite.py, modeling_granite.py
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { type Family, type FamilyTraits, readDecoderShape } from './decoder-shape.js';

/** What the dense ones and the mixtures share. */
export function graniteTraits(config: CheckpointConfig): FamilyTraits {
  const embeddingScale = config.positiveNumber('embedding_multiplier', 1);
  const queryScale = config.positiveNumber('attention_multiplier', 1);
  return {
    honours: ['embedding_multiplier', 'attention_multiplier', 'residual_multiplier', 'logits_scaling'],
    embeddingScale: () => embeddingScale,
    queryScale: () => queryScale,
    residualScale: config.positiveNumber('residual_multiplier', 1),
    logitScale: 1 / config.positiveNumber('logits_scaling', 1),
  };
}

export const family: Family = {
  architectures: ['GraniteForCausalLM'],
  modelTypes: ['granite'],
  shape(config) {
    const attentionBias = config.boolean('attention_bias', false);
    return readDecoderShape(config, {
      ...graniteTraits(config),
      biases: { qkv: attentionBias, attentionOut: attentionBias, mlp: config.boolean('mlp_bias', false) },
    });
  },
};
