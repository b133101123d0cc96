/**
 * OPT: learned positions from the third row on, layer norms, ReLU. The 350m's norms stand after the sums, and its embedding has another
 * size than its stream.
 *
 * Source  transformers: configuration_opt.py, modeling_opt.py
 */
import { type Family, readDecoderShape } from './decoder-shape.js';
import { requireValue } from './known-keys.js';

/** The first two rows of the table stand for padding. */
const FIRST_POSITION = 2;

export const family: Family = {
  architectures: ['OPTForCausalLM'],
  modelTypes: ['opt'],
  shape(config) {
    requireValue(config, 'enable_bias', true);
    const hiddenSize = config.positiveInteger('hidden_size');
    const embeddingSize = config.positiveInteger('word_embed_proj_dim', hiddenSize);
    const isProjected = embeddingSize !== hiddenSize;
    const isNormedAfter = !config.boolean('do_layer_norm_before', true);
    const contextLength = config.positiveInteger('max_position_embeddings', 2048);
    const layer = 'model.decoder.layers.{layer}';
    return readDecoderShape(config, {
      keys: { ffnSize: 'ffn_dim', activation: 'activation_function', normEpsilon: 'layer_norm_eps' },
      honours: ['do_layer_norm_before'],
      norm: { kind: 'layer' },
      embeddingSize,
      ...(isNormedAfter ? { postNormOf: 'stream' as const } : {}),
      defaultEpsilon: 1e-5,
      biases: { qkv: true, attentionOut: true, mlp: true },
      contextLength,
      defaultActivation: 'relu',
      gated: false,
      rope: null,
      defaultTiedHead: true,
      names: {
        embedding: 'model.decoder.embed_tokens',
        positions: {
          stem: 'model.decoder.embed_positions',
          rows: {
            unitRows: 1,
            groupUnits: contextLength + FIRST_POSITION,
            firstUnit: FIRST_POSITION,
            units: contextLength,
          },
          transposed: false,
        },
        embeddingIn: isProjected ? 'model.decoder.project_in' : null,
        embeddingOut: isProjected ? 'model.decoder.project_out' : null,
        finalNorm: isNormedAfter ? null : 'model.decoder.final_layer_norm',
        renames: [[/^(?=decoder\.)/, 'model.']],
      },
      layer: {
        ...(isNormedAfter
          ? {
              ...{ attentionNorm: null, attentionPostNorm: `${layer}.self_attn_layer_norm` },
              ...{ mlpNorm: null, mlpPostNorm: `${layer}.final_layer_norm` },
            }
          : { attentionNorm: `${layer}.self_attn_layer_norm`, mlpNorm: `${layer}.final_layer_norm` }),
        query: `${layer}.self_attn.q_proj`,
        key: `${layer}.self_attn.k_proj`,
        value: `${layer}.self_attn.v_proj`,
        attentionOut: `${layer}.self_attn.out_proj`,
        up: `${layer}.fc1`,
        down: `${layer}.fc2`,
      },
    });
  },
};
