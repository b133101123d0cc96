/**
 * InternLM2 and 2.5: Llama's block under other names, query, key and value of each group in one tensor.
 *
 * Source  the model's own modeling_internlm2.py (wqkv as `(h gs d)`); the mathematics is modeling_llama.py's
 */
import { type Family, readDecoderShape } from './decoder-shape.js';
import { groupedQkv } from './fused-qkv.js';
import { requireValue } from './known-keys.js';

export const family: Family = {
  architectures: ['InternLM2ForCausalLM'],
  modelTypes: ['internlm2'],
  shape(config) {
    requireValue(config, 'bias', false);
    const layer = 'model.layers.{layer}';
    return readDecoderShape(config, {
      qkv: (sizes) => groupedQkv(`${layer}.attention.wqkv`, sizes),
      names: { embedding: 'model.tok_embeddings', head: 'output' },
      layer: {
        attentionNorm: `${layer}.attention_norm`,
        attentionOut: `${layer}.attention.wo`,
        mlpNorm: `${layer}.ffn_norm`,
        gate: `${layer}.feed_forward.w1`,
        up: `${layer}.feed_forward.w3`,
        down: `${layer}.feed_forward.w2`,
      },
    });
  },
};
