/**
 * What encoders share: every token sees every other, norms stand after the sums, and hidden states become one vector a text.
 *
 * In      config.json and what lies beside it (checkpoint/sentence-modules.ts), and what the family differs in
 * Out     ModelShape
 * Limits  a second text beside the first (the pairs of a cross-encoder) has a place in classifiers alone
 * Errors  ServingError CHECKPOINT_INVALID (decoder-shape.ts, sentence-modules.ts)
 * Source  transformers: modeling_bert.py and its namesakes. Heads for pre-training are not read, BERT's pooler by classifiers alone: a
 *         text's vector is made of the hidden states themselves, as sentence-transformers does
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { readEmbedding } from '../checkpoint/sentence-modules.js';
import type { ModelShape, Place } from '../plan/model-shape.js';
import { type HeadTraits, readHead, scoresTokens } from './classifier-head.js';
import { type ConfigKeys, type FamilyTraits, readDecoderShape } from './decoder-shape.js';
import { requireValue } from './known-keys.js';

export interface EncoderTraits
  extends Pick<
    FamilyTraits,
    | 'defaultEpsilon'
    | 'defaultActivation'
    | 'names'
    | 'layer'
    | 'honours'
    | 'relativeBias'
    | 'distances'
    | 'queryScale'
    | 'embeddingSize'
  > {
  keys?: Partial<ConfigKeys>;
  /** Rows of the position table before the first token's; absent: none. */
  firstPosition?: number;
  /** Head of its classifiers. */
  head?: (hiddenSize: number) => HeadTraits;
}

/** What encoders keep as a buffer, and heads that make no hidden state. */
export const ENCODER_IGNORED: readonly RegExp[] = [
  /^embeddings\.(position_ids|token_type_ids)$/,
  /^(cls|lm_head|pooler|vocab_transform|vocab_layer_norm|vocab_projector)\./,
];

/** BERT's names, with the old spelling of its norms. */
export const BERT_RENAMES: ModelShape['names']['renames'] = [
  [/\.gamma$/, '.weight'],
  [/\.beta$/, '.bias'],
];

export const BERT_LAYER: NonNullable<FamilyTraits['layer']> = {
  query: 'encoder.layer.{layer}.attention.self.query',
  key: 'encoder.layer.{layer}.attention.self.key',
  value: 'encoder.layer.{layer}.attention.self.value',
  attentionOut: 'encoder.layer.{layer}.attention.output.dense',
  attentionPostNorm: 'encoder.layer.{layer}.attention.output.LayerNorm',
  up: 'encoder.layer.{layer}.intermediate.dense',
  down: 'encoder.layer.{layer}.output.dense',
  mlpPostNorm: 'encoder.layer.{layer}.output.LayerNorm',
};

/** @throws ServingError CHECKPOINT_INVALID */
export function readEncoderShape(config: CheckpointConfig, traits: EncoderTraits): ModelShape {
  requireValue(config, 'is_decoder', false);
  requireValue(config, 'position_embedding_type', 'absolute');
  const { firstPosition = 0, head, honours = [], keys, layer, names, ...rest } = traits;
  const positions = config.positiveInteger(keys?.contextLength ?? 'max_position_embeddings');
  if (positions <= firstPosition) {
    throw config.wrong('max_position_embeddings', `more than ${firstPosition}, which stand for padding`);
  }
  const contextLength = positions - firstPosition;
  const hiddenSize = config.positiveInteger(keys?.hiddenSize ?? 'hidden_size');
  const sizes = { hiddenSize, contextLength };
  const embedding = (head && readHead(config, sizes, head(hiddenSize))) ?? readEmbedding(config, sizes);
  return readDecoderShape(config, {
    ...rest,
    keys: { normEpsilon: 'layer_norm_eps', ...keys },
    norm: { kind: 'layer' },
    attention: 'bidirectional',
    postNormOf: 'stream',
    biases: { qkv: true, attentionOut: true, mlp: true },
    contextLength,
    gated: false,
    rope: null,
    honours: ['is_causal', ...honours],
    embedding,
    ...(names?.tokenType && embedding.labels ? { textKinds: textKinds(config) } : {}),
    names: {
      embedding: 'embeddings.word_embeddings',
      positions: rowsOf('embeddings.position_embeddings', positions, firstPosition, contextLength),
      embeddingNorm: 'embeddings.LayerNorm',
      finalNorm: null,
      head: null,
      ...names,
      ignored: [...ENCODER_IGNORED, ...(names?.ignored ?? [])],
    },
    layer: { attentionNorm: null, mlpNorm: null, ...layer },
  });
}

const DEFAULT_KINDS = 2;

/** Kinds of a text and a second one beside it: what a cross-encoder is asked about. */
export const textKinds = (config: CheckpointConfig): 1 | 2 =>
  config.positiveInteger('type_vocab_size', DEFAULT_KINDS) > 1 ? 2 : 1;

/** The first kind of text alone, which an embedder has; of a classifier the first two, of as many as there are. */
export function tokenTypes(config: CheckpointConfig): Place {
  const isClassifier = scoresTokens(config.strings('architectures', [])[0] ?? '') !== null;
  const used = isClassifier ? textKinds(config) : 1;
  return rowsOf(
    'embeddings.token_type_embeddings',
    config.positiveInteger('type_vocab_size', DEFAULT_KINDS),
    0,
    used,
  );
}

const rowsOf = (stem: string, groupUnits: number, firstUnit: number, units: number): Place => ({
  stem,
  rows: { unitRows: 1, groupUnits, firstUnit, units },
  transposed: false,
});
