/**
 * MiniCPM (1B, 2B): Llama's block with multipliers of embedding, branches and logits.
 *
 * Source  the authors' modeling_minicpm.py (not in transformers): scale_emb, scale_depth / sqrt(layers), hidden size / dim_model_base
 */
import { type Family, readDecoderShape } from './decoder-shape.js';

export const family: Family = {
  architectures: ['MiniCPMForCausalLM'],
  modelTypes: ['minicpm'],
  shape(config) {
    const layers = config.positiveInteger('num_hidden_layers');
    const hiddenSize = config.positiveInteger('hidden_size');
    const attentionBias = config.boolean('attention_bias', false);
    return readDecoderShape(config, {
      biases: { qkv: attentionBias, attentionOut: attentionBias },
      embeddingScale: () => config.positiveNumber('scale_emb', 1),
      residualScale: config.positiveNumber('scale_depth', 1) / Math.sqrt(layers),
      logitScale: config.positiveNumber('dim_model_base', 1) / hiddenSize,
      defaultTiedHead: true,
    });
  },
};
