/**
 * GPT-BigCode (StarCoder, SantaCoder): GPT-2's block with one key and value head for all queries.
 *
 * Source  transformers: modeling_gpt_bigcode.py
 */
import { type Family, readDecoderShape } from './decoder-shape.js';
import { groupedQkv, stackedQkv } from './fused-qkv.js';
import { GPT2_TRAITS, gpt2QueryScale } from './gpt2.js';

const QKV = 'transformer.h.{layer}.attn.c_attn';

export const family: Family = {
  architectures: ['GPTBigCodeForCausalLM'],
  modelTypes: ['gpt_bigcode'],
  shape(config) {
    const isMultiQuery = config.boolean('multi_query', true);
    return readDecoderShape(config, {
      ...GPT2_TRAITS,
      honours: ['scale_attn_weights'],
      queryScale: gpt2QueryScale(config),
      defaultActivation: 'gelu_pytorch_tanh',
      ...(isMultiQuery ? { numKvHeads: 1 } : {}),
      qkv: (sizes) => (isMultiQuery ? stackedQkv(QKV, sizes) : groupedQkv(QKV, sizes)),
      layer: {
        attentionNorm: 'transformer.h.{layer}.ln_1',
        attentionOut: 'transformer.h.{layer}.attn.c_proj',
        mlpNorm: 'transformer.h.{layer}.ln_2',
        up: 'transformer.h.{layer}.mlp.c_fc',
        down: 'transformer.h.{layer}.mlp.c_proj',
      },
    });
  },
};
