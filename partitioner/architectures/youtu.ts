/**
 * Youtu-LLM (2B): DeepSeek V3's attention, Llama's MLP.
 *
 * Source  transformers: configuration and modeling of youtu
 */
import { type Family, readDecoderShape } from './decoder-shape.js';
import { latentTraits } from './latent-attention.js';

export const family: Family = {
  architectures: ['YoutuForCausalLM'],
  modelTypes: ['youtu'],
  shape(config) {
    const interleaved = config.boolean('rope_interleave', true);
    return readDecoderShape(config, {
      ...latentTraits(config, { interleaved, defaultQueryRank: 1536 }),
      defaultTiedHead: true,
    });
  },
};
