/**
 * OLMo (1): Llama's block; layer norms without weights, and queries, keys and values that are cut.
 *
 * Source  transformers: configuration_olmo.py, modeling_olmo.py
 */
import { type Family, readDecoderShape } from './decoder-shape.js';

export const family: Family = {
  architectures: ['OlmoForCausalLM'],
  modelTypes: ['olmo'],
  shape(config) {
    const attentionBias = config.boolean('attention_bias', false);
    return readDecoderShape(config, {
      keys: { normEpsilon: 'layer_norm_eps' },
      honours: ['clip_qkv'],
      norm: { kind: 'layer', hasWeight: false, hasBias: false },
      defaultEpsilon: 1e-5,
      biases: { qkv: attentionBias, attentionOut: attentionBias },
      qkvClip: config.has('clip_qkv') ? config.positiveNumber('clip_qkv') : null,
    });
  },
};
