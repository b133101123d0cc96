/**
 * Which layers rotate queries and keys, of families where every so manieth does not.
 *
 * In      `no_rope_layers`: a 1 for each layer that rotates; without it `no_rope_layer_interval`
 * Out     a flag a layer
 * Limits  MAX_LAYERS
 * Errors  CHECKPOINT_INVALID: another number of flags than of layers, or one that is neither 0 nor 1
 * Source  transformers: configuration_llama4.py, configuration_smollm3.py
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';

const MAX_LAYERS = 1024;
const DEFAULT_INTERVAL = 4;

/** @param emptyIsNone an empty list says nothing, as no list does */
export function readRotatedLayers(config: CheckpointConfig, emptyIsNone: boolean): boolean[] {
  const layers = Math.min(MAX_LAYERS, config.positiveInteger('num_hidden_layers'));
  const interval = config.positiveInteger('no_rope_layer_interval', DEFAULT_INTERVAL);
  const flags: unknown = config.raw.no_rope_layers ?? null;
  if (flags === null || (emptyIsNone && Array.isArray(flags) && flags.length === 0))
    return Array.from({ length: layers }, (_, layer) => (layer + 1) % interval !== 0);
  if (!Array.isArray(flags) || flags.length !== layers || flags.some((flag) => flag !== 0 && flag !== 1)) {
    throw config.wrong('no_rope_layers', `0 or 1 for each of ${layers} layers`);
  }
  return flags.map((flag) => flag === 1);
}
