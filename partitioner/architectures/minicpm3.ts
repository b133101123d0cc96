/**
 * MiniCPM3 (4B): MiniCPM's multipliers, DeepSeek V2's attention with halves rotated.
 *
 * Source  transformers: configuration and modeling of minicpm3
 */
import { type Family, readDecoderShape } from './decoder-shape.js';
import { requireValue } from './known-keys.js';
import { latentTraits } from './latent-attention.js';

export const family: Family = {
  architectures: ['MiniCPM3ForCausalLM'],
  modelTypes: ['minicpm3'],
  shape(config) {
    requireValue(config, 'mlp_bias', false);
    const layers = config.positiveInteger('num_hidden_layers');
    const hiddenSize = config.positiveInteger('hidden_size');
    return readDecoderShape(config, {
      ...latentTraits(config, { interleaved: false, defaultQueryRank: 768 }),
      defaultEpsilon: 1e-5,
      embeddingScale: () => config.positiveNumber('scale_emb', 12),
      residualScale: config.positiveNumber('scale_depth', 1.4) / Math.sqrt(layers),
      logitScale: config.positiveNumber('dim_model_base', 256) / hiddenSize,
      defaultTiedHead: true,
    });
  },
};
