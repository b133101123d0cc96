/**
 * The shape of a model as data: what a family file reads out of config.json, and all that plan and graph builder know of it.
 *
 * In      architectures/<family>.ts makes a ModelShape
 * Out     plan.ts and graph/ branch on its fields and never on a model's name; role-tensors.ts lists its tensors
 * Limits  blocks of attention and MLP over one residual stream, one after the other or side by side; decoders and encoders.
 *         Another form adds fields here, a branch in graph/, and no line to another family
 * Errors  none: plain data
 */

import type { EmbeddingShape } from './embedding-shape.js';

/** Rotary positions: how the table of angles is made (architectures/rope-table.ts). */
export interface RopeShape {
  /** Dimensions of a head that are rotated, from its first on; even. */
  rotaryDim: number;
  theta: number;
  scaling: RopeScaling;
  /** Rotated pairs are neighbours (0, 1), (2, 3) …, not halves (0, d/2), (1, d/2 + 1) … */
  interleaved: boolean;
  /** What it rotates is multiplied by 1 + factor · log(1 + floor(position / period)). */
  growth?: { factor: number; period: number };
}

export type RopeScaling =
  | { kind: 'none' }
  | { kind: 'linear'; factor: number }
  | {
      kind: 'llama3';
      factor: number;
      lowFrequencyFactor: number;
      highFrequencyFactor: number;
      originalContextLength: number;
    }
  | {
      kind: 'yarn';
      factor: number;
      /** Pairs below `low` are kept, pairs above `high` are stretched, those between are mixed. */
      low: number;
      high: number;
      /** Cosines and sines are multiplied by it. */
      attentionFactor: number;
    }
  | {
      kind: 'longrope';
      /** Divisor of each pair's frequency, for sequences that fit `originalContextLength` and for longer ones. */
      shortFactors: readonly number[];
      longFactors: readonly number[];
      originalContextLength: number;
      attentionFactor: number;
    };

/** All norms of the block, and the last. */
export interface NormShape {
  kind: 'rms' | 'layer';
  epsilon: number;
  /** Absent: a norm without a scale of its own (OLMo). */
  hasWeight: boolean;
  hasBias: boolean;
  /** The scale is 1 + weight (Gemma). */
  plusOne: boolean;
}

/**
 * Norm of queries and keys, before the rotation mostly: of every head by itself with one scale for all heads, of every head with a
 * scale of its own, or of the whole vector over all heads. Unit: of every head by itself without a scale, on layers that rotate.
 */
export type HeadNorm = 'none' | 'per-head' | 'own-scales' | 'whole' | 'unit';

export type Activation = 'silu' | 'gelu' | 'gelu-tanh' | 'quick-gelu' | 'relu' | 'relu-squared' | 'xielu';

/**
 * Rows of a fused tensor that are one role's. The tensor is groups of `groupUnits` units of `unitRows` rows; the role has
 * units `firstUnit` … `firstUnit + units - 1` of every group.
 */
export interface RowPick {
  unitRows: number;
  groupUnits: number;
  firstUnit: number;
  units: number;
}

/**
 * Where a role lies in the checkpoint. `{layer}` stands for the layer's index, `{head}` for one tensor a head, `{expert}` for
 * one an expert.
 */
export interface Place {
  /** `.weight` and `.bias` follow, or `endings`. */
  stem: string;
  endings?: { weight: string; bias: string };
  /** One tensor holds the role of all experts, a matrix (or, of biases, a row) each. */
  stacked?: boolean;
  /** A vector that is stored as a matrix of one row. */
  isRow?: boolean;
  /** Null: all rows. */
  rows: RowPick | null;
  /** A matrix of its own for each head, of the rows of one group; turned: those are its columns. Never taken as codes. */
  ofHeads?: 'upright' | 'turned';
  /** Stored [in, out] instead of [out, in]. */
  transposed: boolean;
}

/** A whole tensor by its stem, or a part of one. */
export type RolePlace = string | Place;

/** A gated MLP's tensors. */
export interface GatedNames {
  gate: RolePlace;
  up: RolePlace;
  down: RolePlace;
}

/** Tensors of a layer with experts; `{expert}` stands for the expert's index. */
export interface ExpertNames extends GatedNames {
  router: RolePlace;
  /** What is added to the scores before experts are chosen; null: nothing. */
  choiceBias: Place | null;
  /** An expert that every token visits, multiplied by the sigmoid of its own router where it has one. */
  shared: (GatedNames & { router: RolePlace | null }) | null;
}

/** Tensors of latents (LatentShape); the queries' are `LayerNames.query`. */
export interface LatentNames {
  queryDown: string;
  queryDownNorm: string;
  /** The latent, and behind it what keys have of positions. */
  keyValueDown: string;
  keyValueDownNorm: string;
  /** Head by head: its part of the keys, then its values. */
  keyValueUp: string;
}

/** Roles of one layer's tensors; null: the block has none. */
export interface LayerNames {
  attentionNorm: string | null;
  query: RolePlace;
  key: RolePlace;
  value: RolePlace;
  /** Instead of key and value. */
  latent: LatentNames | null;
  queryNorm: string | null;
  keyNorm: string | null;
  /** One more score a head, learned, that every query has beside those of the keys it sees and that brings no value. */
  sinks: Place | null;
  attentionOut: RolePlace;
  /** Norms of what attention and MLP add to the stream. */
  attentionPostNorm: string | null;
  mlpNorm: string | null;
  /** Numbers of the activation (xIELU's alpha_p, alpha_n, beta and eps). */
  activation: string | null;
  gate: RolePlace | null;
  up: RolePlace;
  down: RolePlace;
  mlpPostNorm: string | null;
  experts: ExpertNames | null;
}

/** How a token's experts are chosen, and what their outputs are multiplied by. */
export interface RoutingShape {
  /** nearest-softmax: the best of what is left, k times, each weighed by a softmax over the scores that come near it (PhiMoE). */
  scoring: 'softmax' | 'sigmoid' | 'nearest-softmax';
  /** How far a score may lie below the best, as a part of the larger of both. Of nearest-softmax. */
  nearness?: number;
  /** Experts are in groups of equal size; only those of the best groups, by the sum of their so many best scores, are chosen from. */
  groups: { count: number; chosen: number; by: 1 | 2 } | null;
  /** Multiplies all chosen ones' weights. */
  scale: number;
  /** What a weight multiplies; absent: what its expert makes. */
  weighs?: 'inputs';
}

/**
 * Multi-head latent attention: keys and values of all heads are made of one latent a token, so that it alone is cached, one row for all
 * heads (graph/latent-segments.ts). A head of a query or key has `plainDim` columns of it, then those that are rotated;
 * `headDim` is that of the cache, the latent's columns and the rotated ones.
 */
export interface LatentShape {
  rank: number;
  /** Columns of the latent that queries are made of; null: they are made of the stream. */
  queryRank: number | null;
  plainDim: number;
  valueDim: number;
  /** Both latents' norms have it. */
  epsilon: number;
  /** Queries are multiplied by 1 + factor · log(1 + floor(position / period)). */
  queryGrowth: { factor: number; period: number } | null;
}

/** Distances in buckets, an equal number before and behind; the first half of them one distance each, the rest by logarithm. */
export interface RelativeBiasShape {
  /** Rows of the table. */
  rows: number;
  /** That are used. */
  buckets: number;
  /** From here on distances share the last bucket. */
  maxDistance: number;
}

/**
 * Distances have vectors of their own, of which every layer makes queries and keys by the linears of its tokens (DeBERTa): scores are sums
 * of token and token, token and distance, distance and token.
 */
export interface DistancesShape {
  /** Rows of the table to either side. */
  span: number;
  /** By logarithm from half the span on; null: a row a distance. */
  maxDistance: number | null;
  /** The second and the third of the sums. */
  queryMeetsDistance: boolean;
  distanceMeetsKey: boolean;
  /** The vectors are normed. */
  isNormed: boolean;
}

/** Instead of one MLP, several of which a token visits the likeliest few. */
export interface ExpertsShape {
  count: number;
  perToken: number;
  ffnSize: number;
  routing: RoutingShape;
  /** The chosen ones' probabilities are made to sum up to 1. */
  normalised: boolean;
  /** The router has them, and every expert's linears. */
  biases: boolean;
  sharedFfnSize: number | null;
  /** Which layers have experts; the others have the plain MLP. One entry a layer. */
  layers: readonly boolean[];
}

export interface TensorNames {
  embedding: string;
  /** Linears between an embedding and a stream of unlike sizes (OPT-350m). */
  embeddingIn: string | null;
  embeddingOut: string | null;
  /** Learned positions, [context length, hidden]. */
  positions: RolePlace | null;
  /** Added to every token, [kinds, hidden]: what tells a text from a second one beside it. */
  tokenType: RolePlace | null;
  embeddingNorm: string | null;
  /** [buckets, heads] */
  relativeBias: RolePlace | null;
  /** Vectors of distances, [2 · span, hidden], and their norm. */
  distances: RolePlace | null;
  distancesNorm: string | null;
  finalNorm: string | null;
  /** Null: the model makes no logits. */
  head: string | null;
  layer: LayerNames;
  /** Tensors some checkpoints carry that change nothing. */
  ignored: readonly RegExp[];
  /** Other spellings in use: what matches is replaced before a tensor is looked for. */
  renames: readonly (readonly [RegExp, string])[];
}

export interface ModelShape {
  /** Columns of a cached head are rounded up to a multiple of it, with zeros; absent: 1. The plan of a remote device says so. */
  cacheUnit?: number;
  /** As in config.json. */
  architecture: string;
  modelType: string;
  hiddenSize: number;
  /** Columns of the embedding and of what the head reads; the hidden size mostly. */
  embeddingSize: number;
  numLayers: number;
  numHeads: number;
  numKvHeads: number;
  headDim: number;
  /** Null: every KV head has keys and values of its own. */
  latent: LatentShape | null;
  ffnSize: number;
  vocabSize: number;
  contextLength: number;
  norm: NormShape;
  /**
   * What a post-norm takes: what the branch adds, before it is added; or the stream, after it: then the stream goes on normed
   * (BERT).
   */
  postNormOf: 'branch' | 'stream';
  /** Parallel: attention and MLP read the same stream, and their sums are added at once. */
  residual: 'sequential' | 'parallel';
  /** Kinds of tokens, of a text and a second one beside it; 1: there is none beside it, or nothing tells them apart. */
  textKinds: 1 | 2;
  /** The first layer's attention reads the stream as it is (ModernBERT, whose embeddings are normed). */
  firstLayerUnnormed: boolean;
  /** Bidirectional: a token sees those after it too, so a text runs in one step and leaves no keys and values behind. */
  attention: 'causal' | 'bidirectional';
  /** What attention and MLP add is multiplied by it. */
  residualScale: number;
  /**
   * A layer's sliding window: tokens a query sees before itself, itself included, and, bidirectional, as many behind it; null: all.
   * One entry a layer.
   */
  windows: readonly (number | null)[];
  /** Texts are cut into pieces of so many tokens on this layer, and a query sees its own piece alone; null: not cut. */
  pieces: readonly (number | null)[];
  ropes: readonly RopeShape[];
  /** Which of `ropes` rotates a layer's queries and keys; null: none does. One entry a layer. */
  layerRopes: readonly (number | null)[];
  /** Another of `ropes` for the queries of all layers that rotate; null: that of the keys. */
  queryRope: number | null;
  /** Per head, what a key's score gains a position; null: no ALiBi. */
  alibiSlopes: readonly number[] | null;
  /** Slopes, positions and their products are rounded to bfloat16, and then scaled as scores are (Falcon). */
  alibiRounded: boolean;
  /** Queries of layers that do not rotate are multiplied by 1 + factor · log(1 + floor((position + 1) / period)). */
  unrotatedGrowth: { factor: number; period: number } | null;
  /** What a score gains by how far apart query and key are, learned by head (T5's buckets). */
  relativeBias: RelativeBiasShape | null;
  distances: DistancesShape | null;
  /** What scores are multiplied by, 1/sqrt(headDim) mostly. One entry a layer. */
  queryScales: readonly number[];
  headNorm: HeadNorm;
  /** Queries and keys are rotated first. */
  headNormAfterRotation: boolean;
  /** Queries, keys and values are cut to ± this. */
  qkvClip: number | null;
  /** c: scores become c · tanh(score / c). */
  attentionSoftCap: number | null;
  activation: Activation;
  /** A gated MLP that cuts its gate above at `limit` and its raised half at ± limit, and adds `raisedAddend` to the latter. */
  clampedGate: { limit: number; raisedAddend: number } | null;
  experts: ExpertsShape | null;
  embeddingScale: number;
  logitScale: number;
  logitSoftCap: number | null;
  /** The head uses the embedding's weights. */
  tiedHead: boolean;
  biases: { qkv: boolean; attentionOut: boolean; mlp: boolean; mlpDown: boolean; head: boolean };
  /** What is made of a text's last hidden states; null: logits, token by token. */
  embedding: EmbeddingShape | null;
  names: TensorNames;
}

/** Norm of the stream before a layer's attention; null: none. */
export const attentionNormOf = (
  { firstLayerUnnormed, names }: Pick<ModelShape, 'firstLayerUnnormed' | 'names'>,
  layer: number,
): string | null => (firstLayerUnnormed && layer === 0 ? null : names.layer.attentionNorm);

/** Whether queries and keys of a layer are normed. */
export const hasHeadNorm = (
  { headNorm, layerRopes }: Pick<ModelShape, 'headNorm' | 'layerRopes'>,
  layer: number,
): boolean => headNorm !== 'none' && (headNorm !== 'unit' || (layerRopes[layer] ?? null) !== null);

/** Whether a layer's queries and keys are made with `positions`. */
export const needsPositions = (
  { alibiSlopes, layerRopes, unrotatedGrowth }: ModelShape,
  layer: number,
): boolean => alibiSlopes !== null || unrotatedGrowth !== null || (layerRopes[layer] ?? null) !== null;

/** Columns of a head of what the output projection reads. */
export const valueDim = ({ headDim, latent }: Pick<ModelShape, 'headDim' | 'latent'>): number =>
  latent?.valueDim ?? headDim;

/** A layer whose MLP is experts. */
export const hasExperts = ({ experts }: ModelShape, layer: number): boolean =>
  experts?.layers[layer] ?? false;

/** The column of a cached key in which only the sinks' row is 1 (the queries' have the sink); null: no sinks. */
export function sinkColumn({ headDim, alibiSlopes, names }: ModelShape): number | null {
  return names.layer.sinks === null ? null : headDim + (alibiSlopes === null ? 0 : 1);
}

/**
 * Columns of a cached key or value of one head: ALiBi takes one more, in which keys carry their position; sinks take one
 * more.
 */
export function cachedHeadDim(shape: ModelShape): number {
  const { alibiSlopes, cacheUnit = 1, headDim } = shape;
  const column = sinkColumn(shape);
  const columns = column === null ? headDim + (alibiSlopes === null ? 0 : 1) : column + 1;
  return Math.ceil(columns / cacheUnit) * cacheUnit;
}
