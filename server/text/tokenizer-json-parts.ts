/**
 * What the readers of tokenizer.json's parts share: fields, patterns, the byte letters of GPT-2.
 *
 * In      parsed JSON
 * Out     checked values
 * Errors  CHECKPOINT_INVALID naming the field
 * Source  a Regex is Oniguruma's dialect: its translation to JavaScript's is @huggingface/tokenizers'
 */

import * as library from '@huggingface/tokenizers';
import { ServingError } from '../../proto/errors.js';
import { isObject } from '../../proto/is-object.js';

/** The part of the library that is used; its own declarations do not resolve under NodeNext. */
const { SplitPreTokenizer } = library as unknown as {
  SplitPreTokenizer: new (json: Record<string, unknown>) => { pattern: RegExp };
};

export function invalidTokenizer(message: string, cause?: unknown): ServingError {
  return new ServingError('CHECKPOINT_INVALID', `tokenizer.json cannot be used: ${message}`, { cause });
}

/** A value that a stranger wrote, for a message. String() would run into an object's own `toString`. */
export function shown(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value));
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

export function listOf(json: Record<string, unknown>, field: string): unknown[] {
  const value = json[field] ?? [];
  if (!Array.isArray(value)) throw invalidTokenizer(`'${field}' is not a list`);
  return value;
}

export function textOf(json: Record<string, unknown>, field: string): string {
  const value = json[field];
  if (typeof value !== 'string') throw invalidTokenizer(`'${field}' is not a text`);
  return value;
}

/** A text that is looked for: the empty one would be found everywhere, for ever. */
export function someText(json: Record<string, unknown>, field: string): string {
  const text = textOf(json, field);
  if (text === '') throw invalidTokenizer(`'${field}' is an empty text`);
  return text;
}

/** A `pattern` ({String} or {Regex}), global, by code point. */
export function compilePattern(json: unknown): RegExp {
  const text = isObject(json) ? (json.Regex ?? json.String) : undefined;
  if (!isObject(json) || typeof text !== 'string' || text === '')
    throw invalidTokenizer('a pattern is neither a String nor a Regex');
  if (json.Regex === undefined) return new RegExp(text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&'), 'gu');
  try {
    return new SplitPreTokenizer({ pattern: json, invert: true }).pattern;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw invalidTokenizer(
      `the pattern ${text.slice(0, 200)} has no translation: ${reason.slice(0, 200)}`,
      error,
    );
  }
}

/** GPT-2's letters: a printable letter for each byte. */
const LETTERS: readonly string[] = (() => {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable =
      (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
    return String.fromCharCode(printable ? byte : next++);
  });
})();
const BYTES: ReadonlyMap<string, number> = new Map(LETTERS.map((letter, byte) => [letter, byte]));

export function bytesToLetters(text: string): string {
  let letters = '';
  for (const byte of Buffer.from(text, 'utf8')) letters += LETTERS[byte] as string;
  return letters;
}

/** The bytes that a token's letters stand for; null when one of them stands for none: the token is its own text. */
export function lettersToBytes(token: string): number[] | null {
  const bytes: number[] = [];
  for (const letter of token) {
    const byte = BYTES.get(letter);
    if (byte === undefined) return null;
    bytes.push(byte);
  }
  return bytes;
}
