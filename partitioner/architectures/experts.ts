/**
 * Experts of a config.json → ExpertsShape.
 *
 * Errors  ServingError CHECKPOINT_INVALID: more experts a token than there are, a list of layers that is none
 * Source  transformers: modeling_qwen2_moe.py (which layers are sparse)
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import type { ExpertsShape } from '../plan/model-shape.js';

/** Of published models; more would be a damaged config.json. */
const MAX_EXPERTS = 1024;

export interface ExpertKeys {
  count: string;
  ffnSize: string;
}

/** @param layers which layers have experts */
export function readExperts(
  config: CheckpointConfig,
  keys: ExpertKeys,
  rest: Pick<ExpertsShape, 'normalised' | 'sharedFfnSize' | 'layers'> & { biases?: boolean },
): ExpertsShape {
  const count = config.positiveInteger(keys.count);
  if (count > MAX_EXPERTS) throw config.wrong(keys.count, `at most ${MAX_EXPERTS}`);
  const perToken = config.positiveInteger('num_experts_per_tok');
  if (perToken > count) throw config.wrong('num_experts_per_tok', `at most ${keys.count} (${count})`);
  return { count, perToken, ffnSize: config.positiveInteger(keys.ffnSize), biases: false, ...rest };
}

/** Qwen's rule: every `decoder_sparse_step`-th layer, but none of `mlp_only_layers`. */
export function readSparseLayers(config: CheckpointConfig): boolean[] {
  const numLayers = config.positiveInteger('num_hidden_layers');
  const step = config.positiveInteger('decoder_sparse_step', 1);
  const dense: unknown = config.raw.mlp_only_layers ?? [];
  if (!Array.isArray(dense) || dense.some((layer) => !Number.isSafeInteger(layer))) {
    throw config.wrong('mlp_only_layers', 'a list of layers');
  }
  return Array.from(
    { length: Math.min(numLayers, 1024) },
    (_, layer) => (layer + 1) % step === 0 && !dense.includes(layer),
  );
}
