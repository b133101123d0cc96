/**
 * Cuts a text at the tokens that stand beside a vocabulary: `<|im_start|>`, `[MASK]`, runs of spaces.
 *
 * In      `added_tokens` of tokenizer.json, checked by tokenizer-json.ts
 * Out     pieces: a text, or the id of a token
 * Limits  MAX_ADDED_TOKEN_UNITS a token, so that a text costs at most that much a unit
 * Errors  none
 * Source  Hugging Face tokenizers' added vocabulary: the longest token at the leftmost place; `single_word` refuses one that touches a
 *         word's letter, `lstrip` and `rstrip` take the white space beside it along
 */
import { PrefixIndex } from './prefix-index.js';

export const MAX_ADDED_TOKEN_UNITS = 1024;

export interface AddedToken {
  id: number;
  content: string;
  singleWord: boolean;
  stripLeft: boolean;
  stripRight: boolean;
  /** Looked for in the normalized text, in its own normalized form. */
  normalized: boolean;
  special: boolean;
}

/** A text, or the id of an added token. */
export type TextPiece = string | number;

const WORD_BEFORE = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u;
const WORD_AFTER = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;
const SPACE = /^\p{White_Space}$/u;
/** Units of the longest code point: as much of a neighbour as the word tests need. */
const NEIGHBOUR_UNITS = 2;

export class AddedTokenSplitter {
  readonly #tokens: ReadonlyMap<string, AddedToken>;
  readonly #index: PrefixIndex;

  /** @param tokens by the text to look for */
  constructor(tokens: ReadonlyMap<string, AddedToken>) {
    this.#tokens = tokens;
    this.#index = new PrefixIndex(tokens.keys());
  }

  split(text: string): TextPiece[] {
    if (this.#tokens.size === 0) return [text];
    const pieces: TextPiece[] = [];
    let done = 0;
    for (let at = 0; at < text.length; ) {
      const found = this.#index.longestAt(text, at);
      const token = found === null ? undefined : this.#tokens.get(found);
      if (found === null || token === undefined) {
        at += 1;
        continue;
      }
      const end = at + found.length;
      if (token.singleWord && touchesWord(text, at, end)) {
        at = end;
        continue;
      }
      const from = token.stripLeft ? spaceStart(text, done, at) : at;
      const to = token.stripRight ? spaceEnd(text, end) : end;
      if (from > done) pieces.push(text.slice(done, from));
      pieces.push(token.id);
      done = to;
      at = to;
    }
    if (done < text.length) pieces.push(text.slice(done));
    return pieces;
  }
}

function touchesWord(text: string, start: number, end: number): boolean {
  return (
    WORD_BEFORE.test(text.slice(Math.max(0, start - NEIGHBOUR_UNITS), start)) ||
    WORD_AFTER.test(text.slice(end, end + NEIGHBOUR_UNITS))
  );
}

/** Every white-space character is one unit. */
function spaceStart(text: string, least: number, end: number): number {
  let start = end;
  while (start > least && SPACE.test(text.charAt(start - 1))) start -= 1;
  return start;
}

function spaceEnd(text: string, start: number): number {
  let end = start;
  while (end < text.length && SPACE.test(text.charAt(end))) end += 1;
  return end;
}
