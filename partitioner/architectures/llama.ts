/**
 * Llama 2, 3 and 3.x, and what is saved as Llama (TinyLlama, SmolLM, Yi, DeepSeek 7B …).
 *
 * Source  transformers: modeling_llama.py
 */
import { type Family, readDecoderShape, readWindows } from './decoder-shape.js';

export const family: Family = {
  architectures: ['LlamaForCausalLM'],
  modelTypes: ['llama'],
  shape(config) {
    const attentionBias = config.boolean('attention_bias', false);
    return readDecoderShape(config, {
      biases: {
        qkv: attentionBias,
        attentionOut: attentionBias,
        mlp: config.boolean('mlp_bias', false),
      },
      windows: readWindows(config, null, () => false),
    });
  },
};
