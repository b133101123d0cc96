/**
 * Which tokens a GGUF file says begin and end a text: the server's tokenizer and the manifest must mean the same.
 *
 * In      a header
 * Out     ids; what is no token's id is left out
 * Source  llama.cpp llama-vocab.cpp: tokens of turns' ends are known by their text where no key names them
 */
import type { GgufHeader } from './gguf-header.js';

/** ggml's kind of a token that stands for no text. */
const CONTROL = 3;
const TURN_ENDS: readonly string[] = [
  '<|eot_id|>',
  '<|im_end|>',
  '<end_of_turn>',
  '<|end|>',
  '<|eom_id|>',
  '<EOT>',
];

/** A `tokenizer.ggml.X_token_id`. */
export function ggufId({ metadata }: GgufHeader, name: string): number | undefined {
  const id = metadata.get(`tokenizer.ggml.${name}_token_id`);
  const tokens = metadata.get('tokenizer.ggml.tokens');
  const count = Array.isArray(tokens) ? tokens.length : 0;
  return typeof id === 'number' && Number.isSafeInteger(id) && id >= 0 && id < count ? id : undefined;
}

export function ggufEndIds(header: GgufHeader): number[] {
  const { metadata } = header;
  const tokens = (metadata.get('tokenizer.ggml.tokens') ?? []) as readonly unknown[];
  const kinds = (metadata.get('tokenizer.ggml.token_type') ?? []) as readonly unknown[];
  const named = ['eos', 'eot', 'eom'].map((name) => ggufId(header, name));
  const ends = new Set(named.filter((id) => id !== undefined));
  if (!Array.isArray(tokens)) return [...ends];
  for (const text of TURN_ENDS) {
    const id = tokens.indexOf(text);
    if (id !== -1 && kinds[id] === CONTROL) ends.add(id);
  }
  return [...ends];
}
