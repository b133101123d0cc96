/**
 * RoBERTa, XLM-RoBERTa and CamemBERT: BERT whose positions begin behind the padding's row.
 *
 * Limits  a padding id inside a text gets the position of its place; transformers gives it the padding's
 * Source  transformers: configuration_roberta.py, modeling_roberta.py, modeling_xlm_roberta.py, modeling_camembert.py
 */
import type { Family } from './decoder-shape.js';
import { BERT_LAYER, BERT_RENAMES, firstTokenType, readEncoderShape } from './encoder-shape.js';

export const family: Family = {
  architectures: [
    'RobertaModel',
    'RobertaForMaskedLM',
    'XLMRobertaModel',
    'XLMRobertaForMaskedLM',
    'CamembertModel',
    'CamembertForMaskedLM',
  ],
  modelTypes: ['roberta', 'xlm-roberta', 'camembert'],
  shape(config) {
    return readEncoderShape(config, {
      defaultEpsilon: 1e-12,
      defaultActivation: 'gelu',
      firstPosition: (config.ids('pad_token_id')?.[0] ?? 1) + 1,
      names: {
        tokenType: firstTokenType(config, 2),
        renames: [[/^(roberta|xlm_roberta|camembert)\./, ''], ...BERT_RENAMES],
      },
      layer: BERT_LAYER,
    });
  },
};
