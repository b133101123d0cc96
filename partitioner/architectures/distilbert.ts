/**
 * DistilBERT: BERT with names of its own and without kinds of texts.
 *
 * Source  transformers: configuration_distilbert.py, modeling_distilbert.py (sinusoidal positions are stored as learned ones are)
 */
import { classifiersOf, squareDense } from './classifier-head.js';
import type { Family } from './decoder-shape.js';
import { BERT_RENAMES, readEncoderShape } from './encoder-shape.js';

export const family: Family = {
  architectures: ['DistilBertModel', 'DistilBertForMaskedLM', ...classifiersOf('DistilBert')],
  modelTypes: ['distilbert'],
  shape(config) {
    const layer = 'transformer.layer.{layer}';
    return readEncoderShape(config, {
      keys: {
        hiddenSize: 'dim',
        numLayers: 'n_layers',
        numHeads: 'n_heads',
        ffnSize: 'hidden_dim',
        activation: 'activation',
      },
      defaultEpsilon: 1e-12,
      defaultActivation: 'gelu',
      names: { renames: [[/^distilbert\./, ''], ...BERT_RENAMES] },
      head: (hiddenSize) => ({
        pooling: 'first',
        before: [squareDense('pre_classifier', hiddenSize, 'relu')],
        stem: 'classifier',
        hasBias: true,
        perToken: { before: [], stem: 'classifier', hasBias: true },
      }),
      layer: {
        query: `${layer}.attention.q_lin`,
        key: `${layer}.attention.k_lin`,
        value: `${layer}.attention.v_lin`,
        attentionOut: `${layer}.attention.out_lin`,
        attentionPostNorm: `${layer}.sa_layer_norm`,
        up: `${layer}.ffn.lin1`,
        down: `${layer}.ffn.lin2`,
        mlpPostNorm: `${layer}.output_layer_norm`,
      },
    });
  },
};
