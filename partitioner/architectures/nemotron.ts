/**
 * Nemotron 3/4 (Minitron): layer norms of 1 + weight, a plain MLP of squared ReLU, half of a head rotated.
 *
 * Source  transformers: configuration_nemotron.py, modeling_nemotron.py
 */
import { type Family, readDecoderShape } from './decoder-shape.js';

export const family: Family = {
  architectures: ['NemotronForCausalLM'],
  modelTypes: ['nemotron'],
  shape(config) {
    const attentionBias = config.boolean('attention_bias', false);
    return readDecoderShape(config, {
      keys: { normEpsilon: 'norm_eps' },
      defaultEpsilon: 1e-5,
      norm: { kind: 'layer', plusOne: true },
      biases: { qkv: attentionBias, attentionOut: attentionBias, mlp: config.boolean('mlp_bias', false) },
      rope: { defaultPartial: 0.5 },
      defaultActivation: 'relu2',
      gated: false,
    });
  },
};
