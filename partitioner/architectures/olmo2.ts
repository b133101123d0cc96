/**
 * OLMo 2: Llama's block with norms after attention and MLP instead of before, and norms of all queries and all keys at once.
 *
 * Source  transformers: configuration_olmo2.py, modeling_olmo2.py
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { type Family, type FamilyTraits, readDecoderShape } from './decoder-shape.js';

/** What OLMo 2 and 3 share. */
export function olmo2Traits(config: CheckpointConfig): FamilyTraits {
  const attentionBias = config.boolean('attention_bias', false);
  return {
    defaultEpsilon: 1e-5,
    biases: { qkv: attentionBias, attentionOut: attentionBias },
    headNorm: 'whole',
    layer: {
      attentionNorm: null,
      attentionPostNorm: 'model.layers.{layer}.post_attention_layernorm',
      mlpNorm: null,
      mlpPostNorm: 'model.layers.{layer}.post_feedforward_layernorm',
    },
  };
}

export const family: Family = {
  architectures: ['Olmo2ForCausalLM'],
  modelTypes: ['olmo2'],
  shape: (config) => readDecoderShape(config, olmo2Traits(config)),
};
