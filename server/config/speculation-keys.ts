/**
 * The key of a model whose next tokens are guessed.
 *
 * Source  vLLM's --speculative-config, with its names and defaults; LMI passes it on
 */
import type { SpeculationConfig } from './config.js';
import { type KeyRow, modelKey } from './key-row.js';
import type { Outcome, ValueType } from './value-types.js';

const MAX_TOKENS = 16;
const MAX_LOOKUP = 32;
const DEFAULT_TOKENS = 4;
const DEFAULT_LOOKUP = 5;
const FIELDS = ['method', 'num_speculative_tokens', 'prompt_lookup_max', 'prompt_lookup_min'];

const wrong = (sentence: string): Outcome<never> => ({ problem: true, sentence });

function speculation(): ValueType<SpeculationConfig | null> {
  return {
    expects: `a JSON object of ${FIELDS.join(', ')}`,
    parse(text) {
      if (text === '') return { value: null };
      let given: unknown;
      try {
        given = JSON.parse(text);
      } catch {
        return { problem: true };
      }
      if (typeof given !== 'object' || given === null || Array.isArray(given)) return { problem: true };
      return specOf(given as Record<string, unknown>);
    },
  };
}

function specOf(given: Record<string, unknown>): Outcome<SpeculationConfig> {
  const unknown = Object.keys(given).find((name) => !FIELDS.includes(name));
  if (unknown !== undefined) return wrong(`${unknown} is not served: it may have ${FIELDS.join(', ')}`);
  if (given.method !== 'ngram' && given.method !== '[ngram]')
    return wrong('its method must be "ngram": no second model guesses in this version');
  const { num_speculative_tokens: tokens = DEFAULT_TOKENS, prompt_lookup_max, prompt_lookup_min } = given;
  const longest = prompt_lookup_max ?? prompt_lookup_min ?? DEFAULT_LOOKUP;
  const shortest = prompt_lookup_min ?? longest;
  if (!isWhole(tokens, MAX_TOKENS))
    return wrong(`num_speculative_tokens must be a whole number from 1 to ${MAX_TOKENS}`);
  if (!isWhole(longest, MAX_LOOKUP) || !isWhole(shortest, MAX_LOOKUP) || shortest > longest) {
    return wrong(
      `prompt_lookup_min and prompt_lookup_max must be whole numbers, 1 ≤ min ≤ max ≤ ${MAX_LOOKUP}`,
    );
  }
  return { value: { tokens, shortest, longest } };
}

const isWhole = (value: unknown, most: number): value is number =>
  Number.isInteger(value) && (value as number) >= 1 && (value as number) <= most;

export const SPECULATION_KEYS: readonly KeyRow[] = [
  modelKey(
    'option.speculative_config',
    'speculation',
    speculation(),
    null,
    `tokens are guessed ahead and checked together, which changes no text: {"method": "ngram", "num_speculative_tokens": ${DEFAULT_TOKENS}, "prompt_lookup_max": ${DEFAULT_LOOKUP}, "prompt_lookup_min": ${DEFAULT_LOOKUP}} guesses what followed where the last tokens stood before. For answers that repeat their prompt (summaries, edits of code)`,
  ),
];
