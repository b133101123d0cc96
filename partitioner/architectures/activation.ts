/**
 * Names of activations in config.json → Activation.
 *
 * Errors  ServingError CHECKPOINT_INVALID: a name that is not known
 * Source  transformers activations.py
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { entryOf } from '../checkpoint/json-file.js';
import type { VectorActivation } from '../plan/embedding-shape.js';
import type { Activation } from '../plan/model-shape.js';

const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_python: 'gelu',
  gelu_new: 'gelu-tanh',
  gelu_fast: 'gelu-tanh',
  gelu_pytorch_tanh: 'gelu-tanh',
  gelu_python_tanh: 'gelu-tanh',
  quick_gelu: 'quick-gelu',
  relu: 'relu',
  relu2: 'relu-squared',
};

/** @throws ServingError CHECKPOINT_INVALID */
export function readActivation(config: CheckpointConfig, key: string, fallback: string): Activation {
  const found = entryOf(ACTIVATIONS, config.string(key, fallback));
  if (found === undefined) throw config.wrong(key, `one of ${Object.keys(ACTIVATIONS).join(', ')}`);
  return found;
}

/** The same of a dense layer behind the pooling. @throws ServingError CHECKPOINT_INVALID */
export function readVectorActivation(
  config: CheckpointConfig,
  key: string,
  fallback: string,
): VectorActivation {
  const name = config.string(key, fallback);
  if (name === 'tanh' || name === 'sigmoid') return name;
  const found = readActivation(config, key, fallback);
  if (found === 'gelu' || found === 'gelu-tanh' || found === 'relu' || found === 'silu') return found;
  throw config.wrong(key, 'tanh, sigmoid, gelu, relu or silu');
}
