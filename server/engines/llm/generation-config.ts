/**
 * What the server itself needs of a checkpoint's text settings; the sampling defaults come in the manifest, checked.
 *
 * In      model folder; read in the tokenizer's process (tokenizer-program.ts): what the files hold is a stranger's
 * Out     the tokenizer's own end token; keys of generation_config.json that would change a text elsewhere and do nothing here
 * Errors  CHECKPOINT_INVALID: a file that is no JSON object
 * Source  vLLM and TGI end a text at the tokenizer's eos_token as well as at generation_config.json's eos_token_id; keys:
 *         transformers' GenerationConfig
 */

import path from 'node:path';
import { isObject } from '../../../proto/is-object.js';
import { readJsonObject } from '../../text/checkpoint-text-file.js';
import { readTokenizerConfig, textFolder } from '../../text/tokenizer-config.js';

/** A longer one is no token that anybody has. */
const MAX_END_UNITS = 4096;

/** Key → values that change nothing; null and absent never do. `max_length` and `min_length` count the prompt, and stand in old files by habit. */
const UNSERVED: Readonly<Record<string, readonly unknown[]>> = {
  num_beams: [1],
  num_beam_groups: [1],
  penalty_alpha: [0],
  guidance_scale: [1],
  no_repeat_ngram_size: [0],
  encoder_no_repeat_ngram_size: [0],
  encoder_repetition_penalty: [1],
  epsilon_cutoff: [0],
  eta_cutoff: [0],
  top_h: [],
  bad_words_ids: [],
  force_words_ids: [],
  constraints: [],
  forced_bos_token_id: [],
  forced_eos_token_id: [],
  suppress_tokens: [],
  begin_suppress_tokens: [],
  sequence_bias: [],
  exponential_decay_length_penalty: [],
  stop_strings: [],
  watermarking_config: [],
};

/** Keys that would change a text elsewhere, as they stand in the file. */
export function unservedGenerationKeys(modelFolder: string): string[] {
  const given = readJsonObject(path.join(textFolder(modelFolder), 'generation_config.json')) ?? {};
  return Object.entries(UNSERVED).flatMap(([key, neutral]) => {
    const value = Object.hasOwn(given, key) ? (given[key] ?? null) : null;
    const isEmpty = Array.isArray(value) && value.length === 0;
    return value === null || isEmpty || neutral.includes(value) ? [] : [key];
  });
}

/** tokenizer_config.json's `eos_token`; null: it names none. */
export function endTokenOf(modelFolder: string): string | null {
  const entry = readTokenizerConfig(modelFolder).eos_token;
  const token = isObject(entry) ? entry.content : entry;
  return typeof token === 'string' && token !== '' && token.length <= MAX_END_UNITS ? token : null;
}
