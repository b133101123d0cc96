/**
 * OPT: learned positions from the third row on, layer norms, ReLU.
 *
 * Limits  refused: the 350m, whose norms stand after the sums and whose embedding is projected
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
    requireValue(config, 'word_embed_proj_dim', config.positiveInteger('hidden_size'));
    const contextLength = config.positiveInteger('max_position_embeddings', 2048);
    const layer = 'model.decoder.layers.{layer}';
    return readDecoderShape(config, {
      keys: { ffnSize: 'ffn_dim', activation: 'activation_function', normEpsilon: 'layer_norm_eps' },
      norm: { kind: 'layer' },
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
        finalNorm: 'model.decoder.final_layer_norm',
        renames: [[/^(?=decoder\.)/, 'model.']],
      },
      layer: {
        attentionNorm: `${layer}.self_attn_layer_norm`,
        query: `${layer}.self_attn.q_proj`,
        key: `${layer}.self_attn.k_proj`,
        value: `${layer}.self_attn.v_proj`,
        attentionOut: `${layer}.self_attn.out_proj`,
        mlpNorm: `${layer}.final_layer_norm`,
        up: `${layer}.fc1`,
        down: `${layer}.fc2`,
      },
    });
  },
};
