/**
 * MPNet: RoBERTa's block, with a bias by distance on the scores that all layers share.
 *
 * Source  transformers: configuration_mpnet.py, modeling_mpnet.py, which reckons with 32 buckets however many rows the table has
 */
import { classifiersOf } from './classifier-head.js';
import type { Family } from './decoder-shape.js';
import { BERT_RENAMES, readEncoderShape } from './encoder-shape.js';
import { robertaHead } from './roberta.js';

const BUCKETS = 32;
const MAX_DISTANCE = 128;
/** Positions begin behind row 1, whatever `pad_token_id` says. */
const FIRST_POSITION = 2;

export const family: Family = {
  architectures: ['MPNetModel', 'MPNetForMaskedLM', ...classifiersOf('MPNet')],
  modelTypes: ['mpnet'],
  shape(config) {
    const rows = config.positiveInteger('relative_attention_num_buckets', BUCKETS);
    if (rows < BUCKETS) throw config.wrong('relative_attention_num_buckets', `at least ${BUCKETS}`);
    const layer = 'encoder.layer.{layer}';
    return readEncoderShape(config, {
      defaultEpsilon: 1e-12,
      defaultActivation: 'gelu',
      firstPosition: FIRST_POSITION,
      relativeBias: { rows, buckets: BUCKETS, maxDistance: MAX_DISTANCE },
      names: {
        relativeBias: 'encoder.relative_attention_bias',
        renames: [[/^mpnet\./, ''], ...BERT_RENAMES],
      },
      layer: {
        query: `${layer}.attention.attn.q`,
        key: `${layer}.attention.attn.k`,
        value: `${layer}.attention.attn.v`,
        attentionOut: `${layer}.attention.attn.o`,
        attentionPostNorm: `${layer}.attention.LayerNorm`,
        up: `${layer}.intermediate.dense`,
        down: `${layer}.output.dense`,
        mlpPostNorm: `${layer}.output.LayerNorm`,
      },
      head: robertaHead,
    });
  },
};
