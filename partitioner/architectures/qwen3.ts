/**
 * Qwen3 (dense): Llama's block with an RMS norm on every head's query and key; Qwen2's windows.
 *
 * Source  transformers: configuration_qwen3.py, modeling_qwen3.py
 */
import { type Family, readDecoderShape } from './decoder-shape.js';
import { readUpperWindows } from './qwen2.js';

export const family: Family = {
  architectures: ['Qwen3ForCausalLM'],
  modelTypes: ['qwen3'],
  shape(config) {
    const attentionBias = config.boolean('attention_bias', false);
    return readDecoderShape(config, {
      biases: { qkv: attentionBias, attentionOut: attentionBias, mlp: false },
      headNorm: 'per-head',
      windows: readUpperWindows(config),
      defaultKvHeads: 32,
      defaultHeadDim: 128,
    });
  },
};
