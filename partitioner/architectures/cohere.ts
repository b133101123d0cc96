/**
 * Cohere (Command R, Command R+, Aya 23): attention and MLP side by side behind one layer norm without bias, neighbouring pairs
 * rotated, scaled logits; in the larger ones a norm of every head's query and key.
 *
 * Source  transformers: configuration_cohere.py, modeling_cohere.py
 */
import { type Family, readDecoderShape } from './decoder-shape.js';

export const family: Family = {
  architectures: ['CohereForCausalLM'],
  modelTypes: ['cohere'],
  shape(config) {
    const attentionBias = config.boolean('attention_bias', false);
    return readDecoderShape(config, {
      keys: { normEpsilon: 'layer_norm_eps' },
      honours: ['logit_scale', 'use_qk_norm'],
      norm: { kind: 'layer', hasBias: false },
      defaultEpsilon: 1e-5,
      residual: 'parallel',
      biases: { qkv: attentionBias, attentionOut: attentionBias },
      headNorm: config.boolean('use_qk_norm', false) ? 'own-scales' : 'none',
      rope: { defaultTheta: 500_000, interleaved: true },
      logitScale: config.positiveNumber('logit_scale', 0.0625),
      defaultTiedHead: true,
      layer: { mlpNorm: null },
    });
  },
};
