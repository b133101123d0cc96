/**
 * BERT and what is saved as it (MiniLM, E5, BGE, GTE of the first kind …).
 *
 * Source  transformers: configuration_bert.py, modeling_bert.py
 */
import { classifiersOf, type HeadTraits, squareDense } from './classifier-head.js';
import type { Family } from './decoder-shape.js';
import { BERT_LAYER, BERT_RENAMES, readEncoderShape, tokenTypes } from './encoder-shape.js';

/** The first token through BERT's pooler, and a linear; of tokens the linear alone. */
export const poolerHead = (hiddenSize: number): HeadTraits => ({
  pooling: 'first',
  before: [squareDense('pooler.dense', hiddenSize, 'tanh')],
  stem: 'classifier',
  hasBias: true,
  perToken: { before: [], stem: 'classifier', hasBias: true },
});

export const family: Family = {
  architectures: ['BertModel', 'BertForMaskedLM', 'BertForPreTraining', ...classifiersOf('Bert')],
  modelTypes: ['bert'],
  shape(config) {
    return readEncoderShape(config, {
      defaultEpsilon: 1e-12,
      defaultActivation: 'gelu',
      names: {
        tokenType: tokenTypes(config),
        renames: [[/^bert\./, ''], ...BERT_RENAMES],
      },
      layer: BERT_LAYER,
      head: poolerHead,
    });
  },
};
