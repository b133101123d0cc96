/**
 * Seed-OSS: Llama's block with biases on query, key and value.
 *
 * Source  transformers: configuration and modeling of seed_oss
 */
import { type Family, readDecoderShape } from './decoder-shape.js';

export const family: Family = {
  architectures: ['SeedOssForCausalLM'],
  modelTypes: ['seed_oss'],
  shape(config) {
    return readDecoderShape(config, {
      biases: {
        qkv: config.boolean('attention_bias', true),
        attentionOut: config.boolean('attention_out_bias', false),
        mlp: config.boolean('mlp_bias', false),
      },
      defaultKvHeads: 8,
      defaultHeadDim: 128,
    });
  },
};
