/**
 * Keys of config.json that change the mathematics: each is read by the family, or has a value that leaves it as it is, or is
 * refused.
 *
 * Errors  ServingError CHECKPOINT_INVALID naming key, value and the values that would do
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { entryOf } from '../checkpoint/json-file.js';

/** With the values that change nothing (null and absent never do). */
const NEUTRAL_VALUES: Readonly<Record<string, readonly unknown[]>> = {
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
  n_routed_experts: [0],
  use_qk_norm: [false],
  qk_layernorm: [false],
  parallel_attn: [false],
  use_parallel_residual: [false],
  alibi: [false],
  use_alibi: [false],
  clip_qkv: [],
  attn_config: [],
  rope_local_base_freq: [],
  use_bidirectional_attention: [false],
  add_cross_attention: [false],
  is_encoder_decoder: [false],
  apply_residual_connection_post_layernorm: [false],
  scale_attn_weights: [true],
  scale_attn_by_inverse_layer_idx: [false],
  scale_attention_softmax_in_fp32: [true, false],
  new_decoder_architecture: [false],
  do_layer_norm_before: [true],
  layer_norm_elementwise_affine: [true],
  _remove_final_layer_norm: [false],
  attention_chunk_size: [],
  attn_temperature_tuning: [false],
  head_type: [],
  is_causal: [true],
};

/** Whether a key is known to change the mathematics, and this value of it known not to. */
export const isNeutral = (key: string, value: unknown): boolean =>
  entryOf(NEUTRAL_VALUES, key)?.includes(value) ?? false;

/** @param honoured keys that the family reads itself */
export function refuseUnknownMathematics(config: CheckpointConfig, honoured: readonly string[]): void {
  for (const [key, neutral] of Object.entries(NEUTRAL_VALUES)) {
    if (honoured.includes(key) || !config.has(key) || neutral.includes(config.raw[key])) continue;
    const fine = neutral.map((value) => JSON.stringify(value)).join(' or ');
    throw config.wrong(key, fine === '' ? 'none: it changes what the model computes' : fine);
  }
}

/**
 * A key of one family's own that has values nobody computes.
 *
 * @throws ServingError CHECKPOINT_INVALID
 */
export function requireValue(config: CheckpointConfig, key: string, ...allowed: readonly unknown[]): void {
  if (!config.has(key) || allowed.includes(config.raw[key])) return;
  throw config.wrong(key, allowed.map((value) => JSON.stringify(value)).join(' or ') || 'none');
}
