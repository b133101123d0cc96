/**
 * RoBERTa, XLM-RoBERTa and CamemBERT: BERT whose positions begin behind the padding's row.
 *
 * Limits  a padding id inside a text gets the position of its place; transformers gives it the padding's
 * Source  transformers: configuration_roberta.py, modeling_roberta.py, modeling_xlm_roberta.py, modeling_camembert.py
 */
import { classifiersOf, type HeadTraits, squareDense } from './classifier-head.js';
import type { Family } from './decoder-shape.js';
import { BERT_LAYER, BERT_RENAMES, readEncoderShape, tokenTypes } from './encoder-shape.js';

/** The first token through a layer of the head's own. */
export const robertaHead = (hiddenSize: number): HeadTraits => ({
  pooling: 'first',
  before: [squareDense('classifier.dense', hiddenSize, 'tanh')],
  stem: 'classifier.out_proj',
  hasBias: true,
  perToken: { before: [], stem: 'classifier', hasBias: true },
});

export const family: Family = {
  architectures: [
    'RobertaModel',
    'RobertaForMaskedLM',
    'XLMRobertaModel',
    'XLMRobertaForMaskedLM',
    'CamembertModel',
    'CamembertForMaskedLM',
    ...classifiersOf('Roberta', 'XLMRoberta', 'Camembert'),
  ],
  modelTypes: ['roberta', 'xlm-roberta', 'camembert'],
  shape(config) {
    return readEncoderShape(config, {
      defaultEpsilon: 1e-12,
      defaultActivation: 'gelu',
      firstPosition: (config.ids('pad_token_id')?.[0] ?? 1) + 1,
      names: {
        tokenType: tokenTypes(config),
        renames: [[/^(roberta|xlm_roberta|camembert)\./, ''], ...BERT_RENAMES],
      },
      layer: BERT_LAYER,
      head: robertaHead,
    });
  },
};
