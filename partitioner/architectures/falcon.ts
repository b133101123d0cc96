/**
 * Falcon: attention and MLP side by side; one key and value head (7B), or groups of them behind a norm of their own (40B, 180B)
 * or behind one norm (Falcon 2 11B). falcon-rw: BLOOM's block, whose ALiBi is rounded to bfloat16.
 *
 * Limits  ALiBi where every head has a key of its own, as in all published ones
 * Source  transformers: configuration_falcon.py, modeling_falcon.py
 */
import { bloomSlopes } from './alibi-slopes.js';
import { type Family, readDecoderShape } from './decoder-shape.js';
import { groupedQkv, stackedQkv } from './fused-qkv.js';
import { requireValue } from './known-keys.js';

export const family: Family = {
  architectures: ['FalconForCausalLM'],
  modelTypes: ['falcon'],
  shape(config) {
    const bias = config.boolean('bias', false);
    const isNew = config.boolean('new_decoder_architecture', false);
    const isMultiQuery = config.boolean('multi_query', true);
    const isParallel = config.boolean('parallel_attn', true);
    if (isNew) requireValue(config, 'parallel_attn', true);
    const isAlibi = config.boolean('alibi', false);
    // What a key gains is rounded by head, and lies in its head's row of the cache.
    if (isAlibi && (isNew || isMultiQuery)) requireValue(config, 'alibi', false);
    const normsInParallel = config.nullablePositiveInteger('num_ln_in_parallel_attn') ?? (isNew ? 2 : 1);
    const layer = 'transformer.h.{layer}';
    const qkv = `${layer}.self_attention.query_key_value`;
    const hasTwoNorms = isNew && normsInParallel === 2;
    return readDecoderShape(config, {
      keys: {
        numKvHeads: 'num_kv_heads',
        ffnSize: 'ffn_hidden_size',
        activation: 'activation',
        normEpsilon: 'layer_norm_epsilon',
      },
      honours: ['new_decoder_architecture', 'parallel_attn', 'alibi'],
      norm: { kind: 'layer' },
      defaultEpsilon: 1e-5,
      residual: isParallel ? 'parallel' : 'sequential',
      ...(isAlibi ? { rope: null, alibiSlopes: bloomSlopes, alibiRounded: true } : {}),
      biases: { qkv: bias, attentionOut: bias, mlp: bias },
      ...(isNew ? {} : { numKvHeads: isMultiQuery ? 1 : config.positiveInteger('num_attention_heads') }),
      defaultFfnFactor: 4,
      contextLength: config.positiveInteger('max_position_embeddings', 2048),
      defaultActivation: 'gelu',
      gated: false,
      defaultTiedHead: true,
      qkv: (sizes) => (isNew || !isMultiQuery ? groupedQkv(qkv, sizes) : stackedQkv(qkv, sizes)),
      names: { embedding: 'transformer.word_embeddings', finalNorm: 'transformer.ln_f' },
      layer: {
        attentionNorm: `${layer}.${hasTwoNorms ? 'ln_attn' : 'input_layernorm'}`,
        attentionOut: `${layer}.self_attention.dense`,
        mlpNorm: isParallel ? (hasTwoNorms ? `${layer}.ln_mlp` : null) : `${layer}.post_attention_layernorm`,
        up: `${layer}.mlp.dense_h_to_4h`,
        down: `${layer}.mlp.dense_4h_to_h`,
      },
    });
  },
};
