/**
 * Arcee (AFM): Llama's block with a plain MLP of squared ReLU.
 *
 * Source  transformers: configuration and modeling of arcee
 */
import { type Family, readDecoderShape } from './decoder-shape.js';

export const family: Family = {
  architectures: ['ArceeForCausalLM'],
  modelTypes: ['arcee'],
  shape(config) {
    const attentionBias = config.boolean('attention_bias', false);
    return readDecoderShape(config, {
      biases: { qkv: attentionBias, attentionOut: attentionBias, mlp: config.boolean('mlp_bias', false) },
      defaultEpsilon: 1e-5,
      defaultActivation: 'relu2',
      gated: false,
    });
  },
};
