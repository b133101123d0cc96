/**
 * BLOOM and BLOOMZ: no positions but ALiBi, a norm of the embedding, layer norms.
 *
 * Source  transformers: configuration_bloom.py, modeling_bloom.py
 */
import { bloomSlopes } from './alibi-slopes.js';
import { type Family, readDecoderShape } from './decoder-shape.js';
import { groupedQkv } from './fused-qkv.js';

/** It can read on; this is what it was trained with, and what config.json seldom says. */
const DEFAULT_CONTEXT_LENGTH = 2048;

export const family: Family = {
  architectures: ['BloomForCausalLM'],
  modelTypes: ['bloom'],
  shape(config) {
    const layer = 'transformer.h.{layer}';
    const hiddenKey = config.has('hidden_size') ? 'hidden_size' : 'n_embed';
    return readDecoderShape(config, {
      keys: {
        hiddenSize: hiddenKey,
        numLayers: config.has('n_layer') ? 'n_layer' : 'num_hidden_layers',
        numHeads: config.has('n_head') ? 'n_head' : 'num_attention_heads',
        normEpsilon: 'layer_norm_epsilon',
      },
      norm: { kind: 'layer' },
      defaultEpsilon: 1e-5,
      biases: { qkv: true, attentionOut: true, mlp: true },
      numKvHeads: config.positiveInteger(config.has('n_head') ? 'n_head' : 'num_attention_heads'),
      defaultFfnFactor: 4,
      contextLength: config.positiveInteger('seq_length', DEFAULT_CONTEXT_LENGTH),
      activation: 'gelu-tanh',
      gated: false,
      rope: null,
      alibiSlopes: bloomSlopes,
      defaultTiedHead: true,
      qkv: (sizes) => groupedQkv(`${layer}.self_attention.query_key_value`, sizes),
      names: {
        embedding: 'transformer.word_embeddings',
        embeddingNorm: 'transformer.word_embeddings_layernorm',
        finalNorm: 'transformer.ln_f',
        renames: [[/^(?=(word_embeddings|word_embeddings_layernorm|h|ln_f)\.)/, 'transformer.']],
      },
      layer: {
        attentionNorm: `${layer}.input_layernorm`,
        attentionOut: `${layer}.self_attention.dense`,
        mlpNorm: `${layer}.post_attention_layernorm`,
        up: `${layer}.mlp.dense_h_to_4h`,
        down: `${layer}.mlp.dense_4h_to_h`,
      },
    });
  },
};
