/**
 * Jais 2: Llama's attention, layer norms, a plain MLP of squared ReLU, biases in all linears.
 *
 * Source  transformers: configuration and modeling of jais2
 */
import { type Family, readDecoderShape } from './decoder-shape.js';

export const family: Family = {
  architectures: ['Jais2ForCausalLM'],
  modelTypes: ['jais2'],
  shape(config) {
    const attentionBias = config.boolean('attention_bias', true);
    return readDecoderShape(config, {
      keys: { normEpsilon: 'layer_norm_eps' },
      defaultEpsilon: 1e-5,
      norm: { kind: 'layer' },
      biases: { qkv: attentionBias, attentionOut: attentionBias, mlp: config.boolean('mlp_bias', true) },
      defaultActivation: 'relu2',
      gated: false,
    });
  },
};
