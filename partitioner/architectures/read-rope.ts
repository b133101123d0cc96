/**
 * Rotary positions of a config.json → RopeShape.
 *
 * In      `rope_parameters`, or `rope_theta` and `rope_scaling` beside each other; the family's spelling and defaults
 * Out     RopeShape
 * Limits  within the context length of config.json: `dynamic` scaling begins beyond it, so it changes nothing here
 * Errors  ServingError CHECKPOINT_INVALID: an unknown type, numbers that are missing or cannot be
 * Source  transformers modeling_rope_utils
 */
import { ServingError } from '../../proto/errors.js';
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import type { ConfigSection } from '../checkpoint/config-section.js';
import { readRopeParameters } from '../checkpoint/rope-parameters.js';
import type { RopeScaling, RopeShape } from '../plan/model-shape.js';

export interface RopeTraits {
  /** Keys beside `rope_parameters`, where the family spells them otherwise. */
  thetaKey?: string;
  partialKey?: string;
  defaultTheta?: number;
  /** Part of a head that is rotated where config.json does not say. */
  defaultPartial?: number;
  interleaved?: boolean;
}

const DEFAULT_THETA = 10_000;

/** @throws ServingError CHECKPOINT_INVALID */
export function readRope(config: CheckpointConfig, headDim: number, traits: RopeTraits = {}): RopeShape {
  const section = config.section('rope_parameters') ?? config.section('rope_scaling');
  return readRopeSection(config, section, headDim, traits);
}

/** @param section `rope_parameters` or `rope_scaling`, or one layer type's set of them */
export function readRopeSection(
  config: CheckpointConfig,
  section: ConfigSection | null,
  headDim: number,
  traits: RopeTraits,
): RopeShape {
  for (const key of Object.keys(section?.raw ?? {})) {
    if (key.endsWith('_attention')) throw config.wrong('rope_parameters', 'one set for all layers');
  }
  const { thetaKey = 'rope_theta', partialKey = 'partial_rotary_factor' } = traits;
  const has = (key: string): boolean => section?.has(key) ?? false;
  const theta = has('rope_theta')
    ? section?.positiveNumber('rope_theta')
    : config.positiveNumber(thetaKey, traits.defaultTheta ?? DEFAULT_THETA);
  const partial = has('partial_rotary_factor')
    ? section?.positiveNumber('partial_rotary_factor')
    : config.positiveNumber(partialKey, traits.defaultPartial ?? 1);
  const rotaryDim = Math.floor(headDim * (partial ?? 1));
  if (rotaryDim > headDim || rotaryDim % 2 !== 0 || rotaryDim === 0) {
    const expected = `an even part of the head's ${headDim} dimensions`;
    throw has('partial_rotary_factor') && section
      ? section.wrong('partial_rotary_factor', expected)
      : config.wrong(partialKey, expected);
  }
  return {
    rotaryDim,
    theta: theta ?? DEFAULT_THETA,
    scaling: readScaling(config, section, rotaryDim, theta ?? DEFAULT_THETA),
    interleaved: traits.interleaved ?? false,
  };
}

function readScaling(
  config: CheckpointConfig,
  section: ConfigSection | null,
  rotaryDim: number,
  theta: number,
): RopeScaling {
  const type = section?.nullableString('rope_type') ?? section?.nullableString('type') ?? 'default';
  if (section === null || type === 'default') return { kind: 'none' };
  switch (type) {
    case 'linear':
      return { kind: 'linear', factor: section.positiveNumber('factor') };
    case 'dynamic':
      // The base grows for sequences longer than max_position_embeddings, and none is.
      return { kind: 'none' };
    case 'llama3': {
      const rope = readRopeParameters(config);
      return {
        kind: 'llama3',
        factor: rope.factor,
        lowFrequencyFactor: rope.lowFreqFactor,
        highFrequencyFactor: rope.highFreqFactor,
        originalContextLength: rope.originalMaxPositions,
      };
    }
    case 'yarn':
      return readYarn(config, section, rotaryDim, theta);
    case 'longrope':
    case 'su': // LongRoPE's first name
      return readLongRope(config, section, rotaryDim);
    default:
      throw new ServingError(
        'CHECKPOINT_INVALID',
        `${config.where}: rope type "${type}" is not known, expected one of default, linear, dynamic, llama3, yarn, longrope`,
      );
  }
}

/** As transformers: the key beside the section wins. */
function originalContextLength(config: CheckpointConfig, section: ConfigSection): number {
  return (
    config.nullablePositiveInteger('original_max_position_embeddings') ??
    section.nullablePositiveInteger('original_max_position_embeddings') ??
    config.positiveInteger('max_position_embeddings')
  );
}

function readYarn(
  config: CheckpointConfig,
  section: ConfigSection,
  rotaryDim: number,
  theta: number,
): RopeScaling {
  const original = originalContextLength(config, section);
  const factor = section.has('factor')
    ? section.positiveNumber('factor')
    : config.positiveInteger('max_position_embeddings') / original;
  const scale = (mscale: number): number => (factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1);
  const mscale = section.nullableNumber('mscale') ?? 0;
  const mscaleAll = section.nullableNumber('mscale_all_dim') ?? 0;
  const inferred = mscale !== 0 && mscaleAll !== 0 ? scale(mscale) / scale(mscaleAll) : scale(1);
  /** Pair that turns so often within the original context. */
  const pairOf = (turns: number): number =>
    (rotaryDim * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const isWhole = section.boolean('truncate', true);
  const first = pairOf(section.positiveNumber('beta_fast', 32));
  const last = pairOf(section.positiveNumber('beta_slow', 1));
  const low = Math.max(0, isWhole ? Math.floor(first) : first);
  const high = Math.min(rotaryDim - 1, isWhole ? Math.ceil(last) : last);
  return {
    kind: 'yarn',
    factor,
    low,
    high: low === high ? high + 0.001 : high,
    attentionFactor: section.has('attention_factor') ? section.positiveNumber('attention_factor') : inferred,
  };
}

function readLongRope(config: CheckpointConfig, section: ConfigSection, rotaryDim: number): RopeScaling {
  const original = originalContextLength(config, section);
  const factors = (key: string): readonly number[] => {
    const value: unknown = section.raw[key];
    const isList = Array.isArray(value) && value.length === rotaryDim / 2;
    if (!isList || !value.every((one) => typeof one === 'number' && Number.isFinite(one) && one > 0)) {
      throw section.wrong(key, `${rotaryDim / 2} numbers above 0`);
    }
    return value as number[];
  };
  for (const key of ['short_mscale', 'long_mscale']) {
    if (section.has(key)) throw section.wrong(key, 'none: it changes what the model computes');
  }
  const factor = section.has('factor')
    ? section.positiveNumber('factor')
    : config.positiveInteger('max_position_embeddings') / original;
  const inferred = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original));
  return {
    kind: 'longrope',
    shortFactors: factors('short_factor'),
    longFactors: factors('long_factor'),
    originalContextLength: original,
    attentionFactor: section.has('attention_factor') ? section.positiveNumber('attention_factor') : inferred,
  };
}
