/**
 * What decoders (and encoders, encoder-shape.ts) share: reads the keys of config.json that a family's traits name into a ModelShape.
 *
 * In      config.json, and what the family differs in (FamilyTraits; a trait that is left out is Llama's)
 * Out     ModelShape
 * Errors  ServingError CHECKPOINT_INVALID: a size that cannot be, and any key that would change the mathematics in a way that
 *         the family does not compute (known-keys.ts): never silently wrong
 * Source  transformers: configuration_llama.py and modeling_llama.py, and their namesakes of the other families
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { readQuantisation } from '../checkpoint/quantisation.js';
import type {
  Activation,
  ExpertsShape,
  HeadNorm,
  LayerNames,
  ModelShape,
  NormShape,
  RolePlace,
  RopeShape,
  TensorNames,
} from '../plan/model-shape.js';
import { readActivation } from './activation.js';
import { refuseUnknownMathematics } from './known-keys.js';
import { type RopeTraits, readRope } from './read-rope.js';

/** A family: who it answers for, and how its config.json becomes a shape. The file's default for the registry. */
export interface Family {
  /** Class names in `architectures`. */
  architectures: readonly string[];
  /** `model_type`, for a config.json without `architectures`. */
  modelTypes: readonly string[];
  shape(config: CheckpointConfig): ModelShape;
}

/** How the family spells what all have. */
export interface ConfigKeys {
  hiddenSize: string;
  numLayers: string;
  numHeads: string;
  numKvHeads: string;
  ffnSize: string;
  contextLength: string;
  activation: string;
  normEpsilon: string;
}

/** What a fused or separate query, key and value need to know. */
export interface HeadSizes {
  numHeads: number;
  numKvHeads: number;
  headDim: number;
}

/** Where a family differs from Llama. */
export interface FamilyTraits {
  keys?: Partial<ConfigKeys>;
  /** Keys of known-keys.ts that the family reads itself. */
  honours?: readonly string[];
  biases?: Partial<ModelShape['biases']>;
  norm?: Partial<Omit<NormShape, 'epsilon'>>;
  /** Where config.json does not say. */
  defaultEpsilon?: number;
  postNormOf?: ModelShape['postNormOf'];
  residual?: ModelShape['residual'];
  /** Whatever config.json says. */
  embeddingSize?: number;
  textKinds?: ModelShape['textKinds'];
  firstLayerUnnormed?: boolean;
  residualScale?: number;
  headNorm?: HeadNorm;
  headNormAfterRotation?: boolean;
  /** Window of each layer; null: every layer sees all. */
  windows?: readonly (number | null)[] | null;
  pieces?: ModelShape['pieces'];
  /** KV heads, whatever config.json says. */
  numKvHeads?: number;
  /** Used where config.json has no `num_key_value_heads`; null: as many as heads. */
  defaultKvHeads?: number | null;
  /** Used where config.json has no `head_dim`; null: hidden size / heads. */
  defaultHeadDim?: number | null;
  /** Whatever config.json says. */
  headDim?: number;
  latent?: ModelShape['latent'];
  /** Whatever config.json says. */
  ffnSize?: number;
  /** Used where config.json has no ffn size: this many hidden sizes. */
  defaultFfnFactor?: number;
  contextLength?: number;
  defaultActivation?: string;
  /** Whatever config.json says. */
  activation?: Activation;
  gated?: boolean;
  clampedGate?: ModelShape['clampedGate'];
  /** Absent: Llama's, for all layers; null: positions are not rotated. */
  rope?: RopeTraits | null;
  /** Instead of `rope`. */
  ropes?: (headDim: number) => RopeShape[];
  layerRopes?: readonly (number | null)[];
  queryRope?: number;
  alibiSlopes?: (numHeads: number) => number[];
  alibiRounded?: boolean;
  unrotatedGrowth?: ModelShape['unrotatedGrowth'];
  relativeBias?: ModelShape['relativeBias'];
  distances?: ModelShape['distances'];
  /** Scale of scores by layer, instead of 1/sqrt(headDim). */
  queryScale?: (layer: number, headDim: number) => number;
  qkvClip?: number | null;
  attentionSoftCap?: number | null;
  logitSoftCap?: number | null;
  logitScale?: number;
  experts?: ExpertsShape | null;
  /** Experts may be stored as MXFP4. */
  packsExperts?: boolean;
  attention?: ModelShape['attention'];
  embedding?: ModelShape['embedding'];
  embeddingScale?: (hiddenSize: number) => number;
  defaultTiedHead?: boolean;
  names?: Partial<Omit<TensorNames, 'layer'>>;
  layer?: Partial<LayerNames>;
  /** Instead of names.query, key and value. */
  qkv?: (sizes: HeadSizes) => { query: RolePlace; key: RolePlace; value: RolePlace };
  /** Instead of names.gate and up: one tensor, gate above up. */
  gateUp?: (ffnSize: number) => { gate: RolePlace; up: RolePlace };
}

/** Sizes beyond these are no model but a damaged or hostile config.json. */
const MAX_LAYERS = 1024;
const MAX_SIZE = 1 << 24;

const LLAMA_KEYS: ConfigKeys = {
  hiddenSize: 'hidden_size',
  numLayers: 'num_hidden_layers',
  numHeads: 'num_attention_heads',
  numKvHeads: 'num_key_value_heads',
  ffnSize: 'intermediate_size',
  contextLength: 'max_position_embeddings',
  activation: 'hidden_act',
  normEpsilon: 'rms_norm_eps',
};

const LAYER_NAMES: LayerNames = {
  attentionNorm: 'model.layers.{layer}.input_layernorm',
  query: 'model.layers.{layer}.self_attn.q_proj',
  key: 'model.layers.{layer}.self_attn.k_proj',
  value: 'model.layers.{layer}.self_attn.v_proj',
  latent: null,
  queryNorm: 'model.layers.{layer}.self_attn.q_norm',
  keyNorm: 'model.layers.{layer}.self_attn.k_norm',
  sinks: null,
  attentionOut: 'model.layers.{layer}.self_attn.o_proj',
  attentionPostNorm: null,
  mlpNorm: 'model.layers.{layer}.post_attention_layernorm',
  activation: null,
  gate: 'model.layers.{layer}.mlp.gate_proj',
  up: 'model.layers.{layer}.mlp.up_proj',
  down: 'model.layers.{layer}.mlp.down_proj',
  mlpPostNorm: null,
  experts: null,
};

const NAMES: TensorNames = {
  embedding: 'model.embed_tokens',
  embeddingIn: null,
  embeddingOut: null,
  positions: null,
  tokenType: null,
  embeddingNorm: null,
  relativeBias: null,
  distances: null,
  distancesNorm: null,
  finalNorm: 'model.norm',
  head: 'lm_head',
  layer: LAYER_NAMES,
  // Old exports keep the rotary frequencies, which config.json gives anyway.
  ignored: [/\.rotary_emb\.inv_freq$/],
  renames: [],
};

/** @throws ServingError CHECKPOINT_INVALID */
export function readDecoderShape(config: CheckpointConfig, traits: FamilyTraits): ModelShape {
  refuseUnknownMathematics(config, traits.honours ?? []);
  // How other families would pack their experts is not known.
  if (readQuantisation(config)?.method === 'mxfp4' && !(traits.packsExperts ?? false)) {
    throw config.wrong('quantization_config', 'none, gptq or awq: mxfp4 is read of GPT-OSS only');
  }
  const keys = { ...LLAMA_KEYS, ...traits.keys };
  const size = (key: string, most = MAX_SIZE): number => {
    const value = config.positiveInteger(key);
    if (value > most) throw config.wrong(key, `at most ${most}`);
    return value;
  };
  const hiddenSize = size(keys.hiddenSize);
  const numLayers = size(keys.numLayers, MAX_LAYERS);
  const numHeads = size(keys.numHeads);
  const numKvHeads =
    traits.numKvHeads ?? config.positiveInteger(keys.numKvHeads, traits.defaultKvHeads ?? numHeads);
  if (numHeads % numKvHeads !== 0) {
    throw config.wrong(keys.numKvHeads, `a divisor of ${keys.numHeads} (${numHeads})`);
  }
  const headDim = readHeadDim(config, traits, keys, hiddenSize, numHeads);
  const ffnSize =
    traits.ffnSize ??
    (traits.defaultFfnFactor !== undefined && !config.has(keys.ffnSize)
      ? traits.defaultFfnFactor * hiddenSize
      : size(keys.ffnSize));
  const ropes = traits.ropes?.(headDim) ?? readRopes(config, traits, headDim);
  const byLayer = <T>(value: (layer: number) => T): T[] =>
    Array.from({ length: numLayers }, (_, layer) => value(layer));
  const queryScale = traits.queryScale ?? (() => 1 / Math.sqrt(headDim));
  return {
    architecture: config.strings('architectures', [])[0] ?? config.string('model_type'),
    modelType: config.string('model_type', 'unknown'),
    hiddenSize,
    embeddingSize: traits.embeddingSize ?? hiddenSize,
    numLayers,
    numHeads,
    numKvHeads,
    headDim,
    latent: traits.latent ?? null,
    ffnSize,
    vocabSize: size('vocab_size'),
    contextLength: traits.contextLength ?? size(keys.contextLength),
    norm: readNorm(config, traits, keys),
    postNormOf: traits.postNormOf ?? 'branch',
    residual: traits.residual ?? 'sequential',
    textKinds: traits.textKinds ?? 1,
    firstLayerUnnormed: traits.firstLayerUnnormed ?? false,
    attention: traits.attention ?? 'causal',
    residualScale: traits.residualScale ?? 1,
    windows: traits.windows ?? byLayer(() => null),
    pieces: traits.pieces ?? byLayer(() => null),
    ropes,
    layerRopes: traits.layerRopes ?? byLayer(() => (ropes.length === 0 ? null : 0)),
    queryRope: traits.queryRope ?? null,
    alibiSlopes: traits.alibiSlopes?.(numHeads) ?? null,
    alibiRounded: traits.alibiRounded ?? false,
    unrotatedGrowth: traits.unrotatedGrowth ?? null,
    relativeBias: traits.relativeBias ?? null,
    distances: traits.distances ?? null,
    queryScales: byLayer((layer) => queryScale(layer, headDim)),
    headNorm: traits.headNorm ?? 'none',
    headNormAfterRotation: traits.headNormAfterRotation ?? false,
    qkvClip: traits.qkvClip ?? null,
    attentionSoftCap: traits.attentionSoftCap ?? null,
    activation:
      traits.activation ?? readActivation(config, keys.activation, traits.defaultActivation ?? 'silu'),
    clampedGate: traits.clampedGate ?? null,
    experts: traits.experts ?? null,
    embeddingScale: traits.embeddingScale?.(hiddenSize) ?? 1,
    logitScale: traits.logitScale ?? 1,
    logitSoftCap: traits.logitSoftCap ?? null,
    tiedHead: config.boolean('tie_word_embeddings', traits.defaultTiedHead ?? false),
    biases: {
      qkv: false,
      attentionOut: false,
      mlp: false,
      mlpDown: traits.biases?.mlp ?? false,
      head: false,
      ...traits.biases,
    },
    embedding: traits.embedding ?? null,
    names: readNames(traits, { numHeads, numKvHeads, headDim }, ffnSize),
  };
}

function readNorm(config: CheckpointConfig, traits: FamilyTraits, keys: ConfigKeys): NormShape {
  const kind = traits.norm?.kind ?? 'rms';
  return {
    kind,
    epsilon: config.positiveNumber(keys.normEpsilon, traits.defaultEpsilon ?? 1e-6),
    hasWeight: true,
    hasBias: kind === 'layer',
    plusOne: false,
    ...traits.norm,
  };
}

function readRopes(config: CheckpointConfig, { rope }: FamilyTraits, headDim: number): RopeShape[] {
  return rope === null ? [] : [readRope(config, headDim, rope)];
}

function readNames(traits: FamilyTraits, sizes: HeadSizes, ffnSize: number): TensorNames {
  return {
    ...NAMES,
    ...traits.names,
    ignored: [...NAMES.ignored, ...(traits.names?.ignored ?? [])],
    layer: {
      ...LAYER_NAMES,
      ...(traits.gated === false ? { gate: null } : {}),
      ...traits.layer,
      ...traits.qkv?.(sizes),
      ...traits.gateUp?.(ffnSize),
    },
  };
}

function readHeadDim(
  config: CheckpointConfig,
  traits: FamilyTraits,
  keys: ConfigKeys,
  hiddenSize: number,
  numHeads: number,
): number {
  if (traits.headDim !== undefined) return traits.headDim;
  const headDim = config.nullablePositiveInteger('head_dim') ?? traits.defaultHeadDim ?? null;
  if (headDim !== null) {
    if (headDim % 2 !== 0 || headDim > MAX_SIZE) throw config.wrong('head_dim', 'an even number');
    return headDim;
  }
  if (hiddenSize % (2 * numHeads) !== 0) {
    throw config.wrong(keys.hiddenSize, `a multiple of 2 · ${keys.numHeads} (${2 * numHeads})`);
  }
  return hiddenSize / numHeads;
}

/** transformers' default for a config.json without the key; null there means none. */
const DEFAULT_WINDOW = 4096;

/** `sliding_window`: a size, or null for none. @param absent for a config.json without the key */
export function readWindowSize(
  config: CheckpointConfig,
  absent: number | null = DEFAULT_WINDOW,
): number | null {
  const isAbsent = !Object.hasOwn(config.raw, 'sliding_window');
  return isAbsent ? absent : config.nullablePositiveInteger('sliding_window');
}

/**
 * Windows of a model whose layers may differ, as transformers reads them: `layer_types` where it is written, else the
 * family's rule.
 *
 * @param window the size, or null for none
 * @param isWindowed the family's rule for a config.json without `layer_types`
 */
export function readWindows(
  config: CheckpointConfig,
  window: number | null,
  isWindowed: (layer: number) => boolean,
): (number | null)[] {
  const numLayers = config.positiveInteger('num_hidden_layers');
  if (numLayers > MAX_LAYERS) throw config.wrong('num_hidden_layers', `at most ${MAX_LAYERS}`);
  if (!config.has('layer_types')) {
    return Array.from({ length: numLayers }, (_, layer) => (isWindowed(layer) ? window : null));
  }
  const types = config.strings('layer_types');
  if (types.length !== numLayers) throw config.wrong('layer_types', `${numLayers} entries`);
  return types.map((type) => {
    if (type === 'full_attention') return null;
    if (type !== 'sliding_attention') {
      throw config.wrong('layer_types', '"full_attention" or "sliding_attention"');
    }
    if (window === null) throw config.wrong('sliding_window', 'a size, since layer_types has sliding layers');
    return window;
  });
}
