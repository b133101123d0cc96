/**
 * What Llama's descendants share: reads the keys of config.json that their decoders agree on into a ModelShape.
 *
 * In      config.json, and what the family differs in
 * Out     ModelShape
 * Errors  ServingError CHECKPOINT_INVALID: a size that cannot be, and any key that would change the mathematics in a way that
 *         nobody here computes (another activation, rope type, soft-caps, multipliers, quantised weights): never silently wrong
 * Source  transformers: configuration_llama.py and modeling_llama.py, and their namesakes of the other families
 */
import { ServingError } from '../../proto/errors.js';
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import type { LayerNames, ModelShape, RopeScaling, TensorNames } from '../model-shape.js';

/** A family: who it answers for, and how its config.json becomes a shape. The file's default for the registry. */
export interface Family {
  /** Class names in `architectures`. */
  architectures: readonly string[];
  /** `model_type`, for a config.json without `architectures`. */
  modelTypes: readonly string[];
  shape(config: CheckpointConfig): ModelShape;
}

/** Where a family differs from the others. */
export interface FamilyTraits {
  biases: ModelShape['biases'];
  qkNorm: boolean;
  /** Window of each layer; null: every layer sees all. */
  windows: readonly (number | null)[] | null;
  /** Used where config.json has no `num_key_value_heads`; null: as many as heads. */
  defaultKvHeads: number | null;
  /** Used where config.json has no `head_dim`; null: hidden size / heads. */
  defaultHeadDim: number | null;
}

/** Sizes beyond these are no model but a damaged or hostile config.json. */
const MAX_LAYERS = 1024;
const MAX_SIZE = 1 << 24;

/** Keys that change the mathematics, with the values that leave it as it is (null and absent always do). */
const NEUTRAL_VALUES: Readonly<Record<string, readonly unknown[]>> = {
  quantization_config: [],
  attn_logit_softcapping: [],
  final_logit_softcapping: [],
  embedding_multiplier: [1],
  residual_multiplier: [1],
  attention_multiplier: [],
  logits_scaling: [1],
  logit_scale: [1],
  query_pre_attn_scalar: [],
  no_rope_layers: [],
  num_experts: [0],
  num_local_experts: [0, 1],
  use_qk_norm: [false],
  parallel_attn: [false],
  use_parallel_residual: [false],
};

const LAYER_NAMES: LayerNames = {
  attentionNorm: 'model.layers.{layer}.input_layernorm.weight',
  query: 'model.layers.{layer}.self_attn.q_proj',
  key: 'model.layers.{layer}.self_attn.k_proj',
  value: 'model.layers.{layer}.self_attn.v_proj',
  attentionOut: 'model.layers.{layer}.self_attn.o_proj',
  queryNorm: 'model.layers.{layer}.self_attn.q_norm.weight',
  keyNorm: 'model.layers.{layer}.self_attn.k_norm.weight',
  mlpNorm: 'model.layers.{layer}.post_attention_layernorm.weight',
  gate: 'model.layers.{layer}.mlp.gate_proj',
  up: 'model.layers.{layer}.mlp.up_proj',
  down: 'model.layers.{layer}.mlp.down_proj',
};

const NAMES: TensorNames = {
  embedding: 'model.embed_tokens.weight',
  finalNorm: 'model.norm.weight',
  head: 'lm_head',
  layer: LAYER_NAMES,
  // Old exports keep the rotary frequencies, which config.json gives anyway.
  ignored: [/\.rotary_emb\.inv_freq$/],
};

/** @throws ServingError CHECKPOINT_INVALID */
export function readDecoderShape(config: CheckpointConfig, traits: FamilyTraits): ModelShape {
  refuseUnknownMathematics(config);
  const size = (key: string, most = MAX_SIZE): number => {
    const value = config.positiveInteger(key);
    if (value > most) throw config.wrong(key, `at most ${most}`);
    return value;
  };
  const hiddenSize = size('hidden_size');
  const numLayers = size('num_hidden_layers', MAX_LAYERS);
  const numHeads = size('num_attention_heads');
  const numKvHeads = config.positiveInteger('num_key_value_heads', traits.defaultKvHeads ?? numHeads);
  if (numHeads % numKvHeads !== 0) {
    throw config.wrong('num_key_value_heads', `a divisor of num_attention_heads (${numHeads})`);
  }
  const headDim = readHeadDim(config, traits, hiddenSize, numHeads);
  return {
    architecture: config.strings('architectures', [])[0] ?? config.string('model_type'),
    modelType: config.string('model_type', 'unknown'),
    hiddenSize,
    numLayers,
    numHeads,
    numKvHeads,
    headDim,
    ffnSize: size('intermediate_size'),
    vocabSize: size('vocab_size'),
    normEpsilon: config.positiveNumber('rms_norm_eps', 1e-6),
    contextLength: size('max_position_embeddings'),
    windows: traits.windows ?? new Array<null>(numLayers).fill(null),
    rope: {
      rotaryDim: headDim,
      theta: config.ropeParameters().theta,
      scaling: readRopeScaling(config),
    },
    activation: 'silu',
    tiedHead: config.boolean('tie_word_embeddings', false),
    biases: traits.biases,
    qkNorm: traits.qkNorm,
    names: NAMES,
  };
}

function readHeadDim(
  config: CheckpointConfig,
  traits: FamilyTraits,
  hiddenSize: number,
  numHeads: number,
): number {
  const headDim = config.nullablePositiveInteger('head_dim') ?? traits.defaultHeadDim;
  if (headDim !== null) {
    if (headDim % 2 !== 0 || headDim > MAX_SIZE) throw config.wrong('head_dim', 'an even number');
    return headDim;
  }
  if (hiddenSize % (2 * numHeads) !== 0) {
    throw config.wrong('hidden_size', `a multiple of 2 · num_attention_heads (${2 * numHeads})`);
  }
  return hiddenSize / numHeads;
}

function refuseUnknownMathematics(config: CheckpointConfig): void {
  const activation = config.string('hidden_act', 'silu');
  if (activation !== 'silu' && activation !== 'swish') throw config.wrong('hidden_act', '"silu"');
  for (const [key, neutral] of Object.entries(NEUTRAL_VALUES)) {
    if (!config.has(key) || neutral.includes(config.raw[key])) continue;
    const fine = neutral.map((value) => JSON.stringify(value)).join(' or ');
    throw config.wrong(key, fine === '' ? 'none: it changes what the model computes' : fine);
  }
}

function readRopeScaling(config: CheckpointConfig): RopeScaling {
  const rope = config.ropeParameters();
  if (rope.partialRotaryFactor !== 1) {
    throw new ServingError(
      'CHECKPOINT_INVALID',
      `${config.where}: partial_rotary_factor is ${rope.partialRotaryFactor}, expected 1`,
    );
  }
  switch (rope.type) {
    case 'default':
      return { kind: 'none' };
    case 'linear':
      return { kind: 'linear', factor: rope.factor };
    case 'llama3':
      return {
        kind: 'llama3',
        factor: rope.factor,
        lowFrequencyFactor: rope.lowFreqFactor,
        highFrequencyFactor: rope.highFreqFactor,
        originalContextLength: rope.originalMaxPositions,
      };
    default:
      throw new ServingError(
        'CHECKPOINT_INVALID',
        `${config.where}: rope type "${rope.type}" is not known, expected one of default, linear, llama3`,
      );
  }
}

/** transformers' default for a config.json without the key; null there means none. */
const DEFAULT_WINDOW = 4096;

/** `sliding_window`: a size, or null for none. */
export function readWindowSize(config: CheckpointConfig): number | null {
  const isAbsent = !Object.hasOwn(config.raw, 'sliding_window');
  return isAbsent ? DEFAULT_WINDOW : config.nullablePositiveInteger('sliding_window');
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
