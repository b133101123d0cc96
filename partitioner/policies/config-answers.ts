/**
 * Has every key of config.json an answer? For a model whose code nobody here has read, a key that is not known to be harmless
 * may change what the model computes.
 *
 * In      config.json, the policy
 * Errors  ServingError CHECKPOINT_INVALID naming the first key without an answer: one that is neither read, nor known to change
 *         nothing, nor listed in the policy's covered_config_keys. (Keys known to change the mathematics: known-keys.ts.)
 */
import type { ConfigKeys } from '../architectures/decoder-shape.js';
import { isNeutral } from '../architectures/known-keys.js';
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { checkpointError } from '../checkpoint/json-file.js';
import type { InjectionPolicy } from './injection-policy.js';

/** Read for every policy, whatever it spells otherwise. */
const READ_KEYS = new Set([
  'architectures',
  'model_type',
  'vocab_size',
  'head_dim',
  'tie_word_embeddings',
  'sliding_window',
  'use_sliding_window',
  'layer_types',
  'rope_theta',
  'rope_scaling',
  'rope_parameters',
  'partial_rotary_factor',
  'original_max_position_embeddings',
  'dtype',
  'torch_dtype',
  'bos_token_id',
  'eos_token_id',
]);

/**
 * They say how to train, to store, to stop or to answer to Python. Biases are seen in the tensors; `pretraining_tp` and the
 * precision of the softmax change rounding alone.
 */
const HARMLESS_KEYS = new Set([
  '_name_or_path',
  '_attn_implementation',
  '_attn_implementation_autoset',
  '_flash_attn_2_enabled',
  'attn_implementation',
  'auto_map',
  'attention_bias',
  'attention_softmax_in_fp32',
  'begin_suppress_tokens',
  'bias',
  'chunk_size_feed_forward',
  'decoder_start_token_id',
  'finetuning_task',
  'forced_bos_token_id',
  'forced_eos_token_id',
  'gradient_checkpointing',
  'id2label',
  'initializer_range',
  'init_std',
  'is_decoder',
  'keys_to_ignore_at_inference',
  'label2id',
  'max_length',
  'min_length',
  'no_bias',
  'max_window_layers',
  'mlp_bias',
  'output_attentions',
  'output_hidden_states',
  'pad_token_id',
  'prefix',
  'pretraining_tp',
  'problem_type',
  'qkv_bias',
  'reorder_and_upcast_attn',
  'return_dict',
  'sep_token_id',
  'slow_but_exact',
  'summary_activation',
  'summary_proj_to_labels',
  'summary_type',
  'summary_use_proj',
  'task_specific_params',
  'tokenizer_class',
  'torchscript',
  'transformers_version',
  'unk_token_id',
  'use_bfloat16',
  'use_bias',
  'use_cache',
  'use_flash_attn',
  'use_qkv_bias',
]);

/** Switched off when a model answers. */
const DROPOUT = /(?:^|_)(?:dropout|dropout_prob|pdrop|dropout_p|dropout_rate)$/;

/** Whether a key is known to change nothing that a model computes. */
export const isHarmless = (key: string): boolean => HARMLESS_KEYS.has(key) || DROPOUT.test(key);

/** All that read-rope.ts reads of `rope_scaling` and `rope_parameters`. */
const ROPE_KEYS = new Set([
  'rope_type',
  'type',
  'rope_theta',
  'partial_rotary_factor',
  'factor',
  'low_freq_factor',
  'high_freq_factor',
  'original_max_position_embeddings',
  'beta_fast',
  'beta_slow',
  'mscale',
  'mscale_all_dim',
  'truncate',
  'attention_factor',
  'short_factor',
  'long_factor',
  'finetuned',
]);

/** @throws ServingError CHECKPOINT_INVALID */
export function checkConfigAnswers(
  policy: InjectionPolicy,
  keys: ConfigKeys,
  config: CheckpointConfig,
): void {
  const named = new Set<string>([
    ...Object.values(keys),
    ...Object.values(policy.config_keys ?? {}),
    ...Object.keys(policy.config ?? {}),
    ...(policy.covered_config_keys ?? []),
  ]);
  for (const [key, value] of Object.entries(config.raw)) {
    if (value === null || named.has(key) || READ_KEYS.has(key) || isHarmless(key)) continue;
    if (isNeutral(key, value)) continue;
    const text = JSON.stringify(value).slice(0, 80);
    throw checkpointError(
      config.where,
      `${key} is ${text}: nobody here knows what it changes in ${config.strings('architectures', ['this model'])[0]}; ` +
        'if injection_policy.json says it already, or it changes nothing, list it there under covered_config_keys',
    );
  }
}

/**
 * What a family knows by heart must be said for a model that none knows: no default is taken.
 *
 * @param rotates positions are rotated
 * @throws ServingError CHECKPOINT_INVALID
 */
export function checkStated(
  config: CheckpointConfig,
  keys: ConfigKeys,
  rotates: boolean,
  thetaKey: string,
): void {
  const stated = (key: string): boolean =>
    config.has(key) || ['rope_parameters', 'rope_scaling'].some((name) => config.section(name)?.has(key));
  for (const key of [keys.activation, keys.normEpsilon, ...(rotates ? [thetaKey] : [])]) {
    if (!stated(key))
      throw checkpointError(config.where, `${key} is missing, and no default is known for this model`);
  }
  for (const name of ['rope_parameters', 'rope_scaling']) {
    for (const key of Object.keys(config.section(name)?.raw ?? {})) {
      if (!ROPE_KEYS.has(key)) {
        throw checkpointError(
          config.where,
          `${name}.${key} is not known: it may change the rotation of positions`,
        );
      }
    }
  }
}
