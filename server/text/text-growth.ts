/**
 * How much longer a tokenizer's own parts can make a text, told before the first one comes: forty doublings, a few hundred bytes of a
 * tokenizer.json, would make terabytes of one letter.
 *
 * In      the JSON of a normalizer, pre-tokenizer or decoder
 * Out     nothing
 * Limits  MAX_PARTS of them in a Sequence and the Sequences in it; MAX_TEXT_GROWTH, MAX_DECODER_GROWTH: the product of what each may do to a
 *         text
 * Errors  CHECKPOINT_INVALID naming part, limit and value
 * Pure    yes
 */
import { isObject } from '../../proto/is-object.js';
import { invalidTokenizer } from './tokenizer-json-parts.js';

/** Those in use have up to ten parts. */
export const MAX_PARTS = 64;
/** Those in use stay below 100: a normal form makes 18 characters of one at most, a few others add one. */
export const MAX_TEXT_GROWTH = 4096;
/** It runs on the server's own thread, a few tokens at a time; those in use stay below 10. */
export const MAX_DECODER_GROWTH = 64;

const LISTS = ['normalizers', 'pretokenizers', 'decoders'] as const;

/** @param name of the field, for the message */
export function checkTextGrowth(json: unknown, name: string, limit = MAX_TEXT_GROWTH): void {
  const { growth, parts } = measure(json);
  if (parts > MAX_PARTS) throw invalidTokenizer(`its ${name} has ${parts} parts, the limit is ${MAX_PARTS}`);
  if (growth > limit) {
    throw invalidTokenizer(`its ${name} can make a text ${growth} times as long, the limit is ${limit}`);
  }
}

function measure(json: unknown): { growth: number; parts: number } {
  if (!isObject(json)) return { growth: 1, parts: 1 };
  if (json.type !== 'Sequence') return { growth: growthOf(json), parts: 1 };
  let growth = 1;
  let parts = 0;
  for (const part of LISTS.flatMap((list) => (Array.isArray(json[list]) ? json[list] : []))) {
    const inner = measure(part);
    growth *= inner.growth;
    parts += inner.parts;
  }
  return { growth, parts };
}

/** One part's, on a text of one character or more. */
function growthOf(json: Record<string, unknown>): number {
  switch (json.type) {
    case 'Replace': {
      const isText = isObject(json.pattern) && typeof json.pattern.String === 'string';
      // An expression may match the empty text beside every character.
      return Math.max(1, lengthOf(json.content) + (isText ? 0 : 1));
    }
    case 'Prepend':
      return 1 + lengthOf(json.prepend);
    case 'Metaspace':
      return 1 + Math.max(1, lengthOf(json.replacement));
    case 'ByteLevel':
      return 4;
    case 'NFC':
    case 'NFD':
    case 'NFKC':
    case 'NFKD':
    case 'BertNormalizer':
    case 'Precompiled':
      return 18;
    case 'WordPiece':
    case 'BPEDecoder':
    case 'Lowercase':
      return 2;
    default:
      return 1;
  }
}

const lengthOf = (value: unknown): number => (typeof value === 'string' ? value.length : 0);
