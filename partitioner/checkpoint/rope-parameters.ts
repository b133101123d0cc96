/**
 * Rotary embedding parameters of a config.json, from either layout.
 *
 * classic          `rope_theta`, `rope_scaling: {type | rope_type, factor, …}` beside it (or null)
 * transformers 5   `rope_parameters: {rope_type, rope_theta, factor, …}`
 *
 * Errors  ServingError CHECKPOINT_INVALID naming file, key, value and what was expected. Whether a type can be built is the
 *         graph's affair: an unknown one is passed on by its name.
 * Source  transformers modeling_rope_utils
 */
import type { ConfigSection } from './config-section.js';

export interface RopeParameters {
  /** Base of the frequencies. */
  theta: number;
  /** 'default' has no scaling. */
  type: 'default' | 'linear' | 'llama3' | (string & {});
  /** Positions are stretched by it; 1 without scaling. */
  factor: number;
  /** llama3 only; 1 elsewhere. */
  lowFreqFactor: number;
  /** llama3 only; 4 elsewhere. */
  highFreqFactor: number;
  /** Positions before stretching. */
  originalMaxPositions: number;
  /** Part of the head's dimensions that is rotated, above 0 and at most 1. */
  partialRotaryFactor: number;
}

/** transformers' default where a config says nothing. */
const DEFAULT_THETA = 10_000;

export function readRopeParameters(config: ConfigSection): RopeParameters {
  const scaling = config.section('rope_parameters') ?? config.section('rope_scaling');
  // Gemma 3 and others keep one set a kind of layer; nobody here can choose between them.
  for (const key of Object.keys(scaling?.raw ?? {})) {
    if (key.endsWith('_attention'))
      throw config.wrong(
        config.has('rope_parameters') ? 'rope_parameters' : 'rope_scaling',
        'one set for all layers',
      );
  }
  const type = scaling?.nullableString('rope_type') ?? scaling?.nullableString('type') ?? 'default';
  const theta = (scaling?.has('rope_theta') ? scaling : config).positiveNumber('rope_theta', DEFAULT_THETA);
  const partialOwner = scaling?.has('partial_rotary_factor') ? scaling : config;
  const partialRotaryFactor = partialOwner.positiveNumber('partial_rotary_factor', 1);
  if (partialRotaryFactor > 1) throw partialOwner.wrong('partial_rotary_factor', 'at most 1');

  const original =
    scaling?.nullablePositiveInteger('original_max_position_embeddings') ??
    config.nullablePositiveInteger('original_max_position_embeddings');
  const parameters: RopeParameters = {
    theta,
    type,
    factor: 1,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalMaxPositions: original ?? config.positiveInteger('max_position_embeddings', 2048),
    partialRotaryFactor,
  };
  if (scaling === null || type === 'default') return parameters;

  // A scaling whose numbers are missing would be a different model, so the types that are known must have theirs.
  const known = type === 'linear' || type === 'llama3';
  parameters.factor = scaling.positiveNumber('factor', known ? undefined : 1);
  if (type === 'llama3') {
    parameters.lowFreqFactor = scaling.positiveNumber('low_freq_factor');
    parameters.highFreqFactor = scaling.positiveNumber('high_freq_factor');
    // Llama 4 has them equal: nothing is mixed.
    if (parameters.highFreqFactor < parameters.lowFreqFactor)
      throw scaling.wrong('high_freq_factor', `at least low_freq_factor (${parameters.lowFreqFactor})`);
    if (original === null) scaling.positiveInteger('original_max_position_embeddings');
  }
  return parameters;
}
