/**
 * BERT and what is saved as it (MiniLM, E5, BGE, GTE of the first kind …).
 *
 * Source  transformers: configuration_bert.py, modeling_bert.py
 */
import type { Family } from './decoder-shape.js';
import { BERT_LAYER, BERT_RENAMES, firstTokenType, readEncoderShape } from './encoder-shape.js';

export const family: Family = {
  architectures: ['BertModel', 'BertForMaskedLM', 'BertForPreTraining'],
  modelTypes: ['bert'],
  shape(config) {
    return readEncoderShape(config, {
      defaultEpsilon: 1e-12,
      defaultActivation: 'gelu',
      names: {
        tokenType: firstTokenType(config, 2),
        renames: [[/^bert\./, ''], ...BERT_RENAMES],
      },
      layer: BERT_LAYER,
    });
  },
};
