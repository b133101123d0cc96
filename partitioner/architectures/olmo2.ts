/**
 * OLMo 2: Llama's block with norms after attention and MLP instead of before, and norms of all queries and all keys at once.
 *
 * Source  transformers: configuration_olmo2.py, modeling_olmo2.py
 */
import { type Family, readDecoderShape } from './decoder-shape.js';

export const family: Family = {
  architectures: ['Olmo2ForCausalLM'],
  modelTypes: ['olmo2'],
  shape(config) {
    const attentionBias = config.boolean('attention_bias', false);
    return readDecoderShape(config, {
      defaultEpsilon: 1e-5,
      biases: { qkv: attentionBias, attentionOut: attentionBias },
      headNorm: 'whole',
      layer: {
        attentionNorm: null,
        attentionPostNorm: 'model.layers.{layer}.post_attention_layernorm',
        mlpNorm: null,
        mlpPostNorm: 'model.layers.{layer}.post_feedforward_layernorm',
      },
    });
  },
};
