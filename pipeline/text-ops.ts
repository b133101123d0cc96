/**
 * Operators on texts: Unicode-safe, and the same wherever they run with the same ICU.
 *
 * In      a text, or lists of texts, as deep as one likes
 * Out     the same shape, with each text replaced
 * Limits  tokenizers as server/text has them
 * Errors  ServingError BAD_REQUEST: something that is no text
 */
import path from 'node:path';
import { ServingError } from '../proto/errors.js';
import { Tokenizer } from '../server/text/tokenizer.js';
import { makeOp, type OpFunction, type OpKind } from './op.js';
import type { Value } from './pipeline-value.js';
import type { ResourceFile } from './resource-file.js';
import type { Op } from './tracing.js';

const eachText = (name: string, act: (text: string) => Value): OpFunction => {
  const map = (value: Value): Value => {
    if (typeof value === 'string') return act(value);
    if (Array.isArray(value)) return value.map(map);
    throw new ServingError(
      'BAD_REQUEST',
      `${name} takes texts, not ${value === null ? 'null' : `a ${typeof value}`}`,
    );
  };
  return (value = null) => map(value);
};

const textKind = (name: string, act: (text: string) => Value): OpKind => ({
  name,
  isExact: true,
  make: () => eachText(name.split('@')[0]!, act),
});

const DECODE: OpKind = {
  name: 'text.decode@1',
  isExact: true,
  make: () => {
    const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    const map = (value: Value): Value => {
      if (value instanceof Uint8Array) return decoder.decode(value);
      if (Array.isArray(value)) return value.map(map);
      throw new ServingError('BAD_REQUEST', 'text.decode takes bytes');
    };
    return (value = null) => map(value);
  },
};
const LOWER = textKind('text.lower@1', (text) => text.toLowerCase());
const STRIP = textKind('text.strip@1', (text) => text.trim());
const NORMALISE: OpKind = {
  name: 'text.normalise@1',
  isExact: true,
  make: ({ form }) => eachText('text.normalise', (text) => text.normalize(form as string)),
};
const SPLIT: OpKind = {
  name: 'text.split@1',
  isExact: true,
  make: ({ separator }) =>
    eachText('text.split', (text) =>
      separator === null ? text.split(/\s+/u).filter((word) => word !== '') : text.split(separator as string),
    ),
};
/** Words as ICU cuts them: also where a language writes no spaces. Spaces are left out, punctuation is a word. */
const WORDS: OpKind = {
  name: 'text.words@1',
  isExact: true,
  make: ({ locale }) => {
    const cutter = new Intl.Segmenter(locale as string, { granularity: 'word' });
    return eachText('text.words', (text) =>
      Array.from(cutter.segment(text), ({ segment }) => segment).filter((word) => word.trim() !== ''),
    );
  },
};
const VOCABULARY: OpKind = {
  name: 'text.vocabulary@1',
  isExact: true,
  make: ({ unknown, words }, files) => {
    const all = files[0]?.lines() ?? (words as readonly string[]);
    const ids = new Map(all.map((word, index) => [word, index]));
    const none = ids.get(unknown as string);
    if (none === undefined)
      throw new ServingError('BAD_REQUEST', `the vocabulary has no word ${String(unknown)}`);
    return eachText('text.vocabulary', (word) => ids.get(word) ?? none);
  },
};
const TOKENIZER: OpKind = {
  name: 'text.tokenizer@1',
  isExact: true,
  make: ({ addSpecialTokens }, files) => {
    const tokenizer = Tokenizer.fromJson(files[0]!.json() as Record<string, unknown>);
    const options = { addSpecialTokens: addSpecialTokens as boolean };
    return eachText('text.tokenizer', (text) => [...tokenizer.encode(text, options)]);
  },
};

export const TEXT_KINDS = [DECODE, LOWER, STRIP, NORMALISE, SPLIT, WORDS, VOCABULARY, TOKENIZER];

export const text = {
  /** Bytes as UTF-8; what is no UTF-8 is an error. */
  decode: (): Op => makeOp(DECODE),
  lower: (): Op => makeOp(LOWER),
  strip: (): Op => makeOp(STRIP),
  normalise: (form: 'NFC' | 'NFD' | 'NFKC' | 'NFKD' = 'NFKC'): Op => makeOp(NORMALISE, { form }),
  /** @param separator absent: any spaces, and no empty words */
  split: (separator: string | null = null): Op => makeOp(SPLIT, { separator }),
  words: (locale = 'und'): Op => makeOp(WORDS, { locale }),
  /** Ids of words: their places. @param given a file of a word a line, or the words */
  vocabulary: (given: ResourceFile | readonly string[], unknown = '[UNK]'): Op =>
    'path' in given
      ? makeOp(VOCABULARY, { unknown, words: [] }, [given])
      : makeOp(VOCABULARY, { unknown, words: [...given] }),
  /** Ids by a checkpoint's tokenizer.json: WordPiece, BPE, Unigram. */
  tokenizer: (given: ResourceFile, addSpecialTokens = true): Op => {
    if (path.extname(given.path) !== '.json')
      throw new ServingError('BAD_REQUEST', `${given.path} is no tokenizer.json`);
    return makeOp(TOKENIZER, { addSpecialTokens }, [given]);
  },
};
