/**
 * DeBERTa v2 and v3 (mDeBERTa, cross-encoders and classifiers of them): BERT's block without absolute positions, whose scores have parts for query and
 * distance, and for distance and key.
 *
 * Limits  not with a convolution behind the first layer (v2-xlarge), nor with projections of their own for distances
 * Source  transformers: configuration_deberta_v2.py, modeling_deberta_v2.py
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import type { DistancesShape } from '../plan/model-shape.js';
import { readVectorActivation } from './activation.js';
import { classifiersOf, squareDense } from './classifier-head.js';
import type { Family } from './decoder-shape.js';
import { BERT_LAYER, BERT_RENAMES, readEncoderShape, tokenTypes } from './encoder-shape.js';
import { requireValue } from './known-keys.js';

export const family: Family = {
  architectures: ['DebertaV2Model', 'DebertaV2ForMaskedLM', ...classifiersOf('DebertaV2')],
  modelTypes: ['deberta-v2'],
  shape(config) {
    requireValue(config, 'relative_attention', true);
    requireValue(config, 'share_att_key', true);
    requireValue(config, 'conv_kernel_size', 0);
    for (const key of ['relative_attention', 'share_att_key', 'pos_att_type']) {
      if (!config.has(key))
        throw config.wrong(key, 'a value: transformers takes another attention without it');
    }
    const hiddenSize = config.positiveInteger('hidden_size');
    const inner = config.positiveInteger('embedding_size', hiddenSize);
    if (inner !== hiddenSize) throw config.wrong('embedding_size', `hidden_size (${hiddenSize})`);
    if ((config.nullablePositiveInteger('pooler_hidden_size') ?? hiddenSize) !== hiddenSize) {
      throw config.wrong('pooler_hidden_size', `hidden_size (${hiddenSize})`);
    }
    const distances = readDistances(config);
    const parts = 1 + Number(distances.queryMeetsDistance) + Number(distances.distanceMeetsKey);
    const hasKinds = config.number('type_vocab_size', 0) > 0;
    const hasPositions = config.boolean('position_biased_input', true);
    const layer = 'encoder.layer.{layer}.attention.self';
    return readEncoderShape(config, {
      defaultEpsilon: 1e-7,
      defaultActivation: 'gelu',
      distances,
      queryScale: (_, headDim) => 1 / Math.sqrt(headDim * parts),
      names: {
        ...(hasKinds ? { tokenType: tokenTypes(config) } : {}),
        ...(hasPositions ? {} : { positions: null }),
        distances: 'encoder.rel_embeddings',
        distancesNorm: 'encoder.LayerNorm',
        ignored: [/^(lm_predictions|mask_predictions)\./, /^embeddings\.position_embeddings\./],
        renames: [[/^deberta\./, ''], ...BERT_RENAMES],
      },
      layer: {
        ...BERT_LAYER,
        query: `${layer}.query_proj`,
        key: `${layer}.key_proj`,
        value: `${layer}.value_proj`,
      },
      head: (size) => ({
        pooling: 'first',
        before: [
          squareDense('pooler.dense', size, readVectorActivation(config, 'pooler_hidden_act', 'gelu')),
        ],
        stem: 'classifier',
        hasBias: true,
        perToken: { before: [], stem: 'classifier', hasBias: true },
      }),
    });
  },
};

function readDistances(config: CheckpointConfig): DistancesShape {
  const given: unknown = config.raw.pos_att_type;
  const kinds = (Array.isArray(given) ? given : String(given).toLowerCase().split('|')).map((kind) =>
    String(kind).trim(),
  );
  if (kinds.length === 0 || kinds.some((kind) => kind !== 'c2p' && kind !== 'p2c')) {
    throw config.wrong('pos_att_type', '"c2p", "p2c" or both');
  }
  const said = config.number('max_relative_positions', -1);
  const most = said < 1 ? config.positiveInteger('max_position_embeddings') : said;
  const buckets = config.number('position_buckets', -1);
  const norms = config.string('norm_rel_ebd', 'none').toLowerCase().split('|');
  return {
    span: buckets > 0 ? buckets : most,
    maxDistance: buckets > 0 ? most : null,
    queryMeetsDistance: kinds.includes('c2p'),
    distanceMeetsKey: kinds.includes('p2c'),
    isNormed: norms.some((norm) => norm.trim() === 'layer_norm'),
  };
}
