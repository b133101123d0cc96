/**
 * The `model` of tokenizer.json: a piece of text to token ids.
 *
 * In      its JSON, the vocabulary checked by tokenizer-json.ts
 * Out     ids of a piece, and the text of every id
 * Limits  BPE of a piece of n characters costs n·log n; a word of WordPiece is at most `max_input_chars_per_word` long
 * Errors  CHECKPOINT_INVALID for a kind or option that is not known
 * Source  BPE and WordPiece are @huggingface/tokenizers'
 */
import * as library from '@huggingface/tokenizers';
import type { TokenModel } from './token-model.js';
import { invalidTokenizer, shown } from './tokenizer-json-parts.js';
import { UnigramModel } from './unigram-model.js';

/** The part of the library that is used; its own declarations do not resolve under NodeNext. */
interface LibraryModel {
  encode(pieces: string[]): string[];
}
const { BPE, WordPiece } = library as unknown as Record<
  'BPE' | 'WordPiece',
  new (
    model: Record<string, unknown>,
  ) => LibraryModel
>;

/** Pieces whose ids are kept, and how long they may be. */
const CACHED_PIECES = 10_000;
const CACHED_UNITS = 64;

/** @param model JSON whose vocabulary was checked */
export function createTokenModel(model: Record<string, unknown>): TokenModel {
  const kind = kindOf(model);
  if (kind === 'Unigram') return unigram(model);
  // What was checked of a list are not ids.
  if (Array.isArray(model.vocab)) throw invalidTokenizer(`the 'vocab' of a ${kind} model is a list`);
  const vocabulary = new Map(Object.entries(model.vocab as Record<string, number>));
  const tokens: (string | undefined)[] = [];
  for (const [token, id] of vocabulary) tokens[id] = token;
  const unknownToken = typeof model.unk_token === 'string' ? model.unk_token : null;
  const unknownId = unknownToken === null ? undefined : vocabulary.get(unknownToken);
  switch (kind) {
    case 'BPE': {
      return {
        tokens,
        encode: wordByWord(bpe(model), vocabulary, unknownId, model.fuse_unk === true),
      };
    }
    case 'WordPiece': {
      if (unknownId === undefined) throw invalidTokenizer('a WordPiece model without its unk_token');
      const words = new WordPiece({ continuing_subword_prefix: '##', ...model });
      return { tokens, encode: wordByWord(words, vocabulary, unknownId, false) };
    }
    case 'WordLevel':
      return {
        tokens,
        encode: (piece, ids) => {
          const id = vocabulary.get(piece) ?? unknownId;
          if (id !== undefined) ids.push(id);
        },
      };
    default:
      throw invalidTokenizer(`Unknown TokenizerModel type: ${shown(kind)}`);
  }
}

/** Old files leave the type out: told by what only one kind has. */
function kindOf(model: Record<string, unknown>): string {
  if (typeof model.type === 'string') return model.type;
  if (Array.isArray(model.vocab)) return 'Unigram';
  if (model.merges !== undefined) return 'BPE';
  return model.continuing_subword_prefix !== undefined ? 'WordPiece' : 'WordLevel';
}

function bpe(model: Record<string, unknown>): LibraryModel {
  const { merges } = model;
  if (!Array.isArray(merges)) throw invalidTokenizer("a BPE model without 'merges'");
  const pairs = merges.map((merge: unknown) => {
    const pair = typeof merge === 'string' ? merge.split(' ') : merge;
    if (!Array.isArray(pair) || pair.length !== 2 || pair.some((half) => typeof half !== 'string')) {
      throw invalidTokenizer(`the merge ${shown(merge)} is not a pair of tokens`);
    }
    return pair as [string, string];
  });
  if (model.continuing_subword_prefix) {
    throw invalidTokenizer('a BPE model with a continuing_subword_prefix is not supported');
  }
  return new BPE({ ...model, merges: pairs });
}

function wordByWord(
  words: LibraryModel,
  vocabulary: ReadonlyMap<string, number>,
  unknownId: number | undefined,
  fuseUnknown: boolean,
): TokenModel['encode'] {
  const idsOf = (piece: string): number[] => {
    const ids: number[] = [];
    for (const token of words.encode([piece])) {
      const id = vocabulary.get(token) ?? unknownId;
      // A character that nothing stands for, and no unknown-token: left out, as the reference does.
      if (id === undefined || (fuseUnknown && id === unknownId && ids.at(-1) === unknownId)) continue;
      ids.push(id);
    }
    return ids;
  };
  // The library's own cache takes 8 µs for a piece it knows: its map is emptied from the front.
  const known = new Map<string, readonly number[]>();
  return (piece, ids) => {
    const found = known.get(piece);
    if (found !== undefined) {
      for (const id of found) ids.push(id);
      return;
    }
    const made = idsOf(piece);
    if (piece.length <= CACHED_UNITS) {
      if (known.size >= CACHED_PIECES) known.clear();
      known.set(piece, made);
    }
    for (const id of made) ids.push(id);
  };
}

function unigram(model: Record<string, unknown>): TokenModel {
  if (!Array.isArray(model.vocab)) throw invalidTokenizer("the 'vocab' of a Unigram model is no list");
  const pieces = model.vocab.map((entry: unknown) => {
    if (!Array.isArray(entry) || typeof entry[0] !== 'string' || typeof entry[1] !== 'number') {
      throw invalidTokenizer('an entry of a Unigram vocabulary is not a pair of token and score');
    }
    return { text: entry[0], score: entry[1] };
  });
  const unknownId = model.unk_id;
  if (typeof unknownId !== 'number' || pieces[unknownId] === undefined) {
    throw invalidTokenizer(`a Unigram model with the unk_id ${shown(unknownId)}, which is no token of it`);
  }
  return new UnigramModel(pieces, { unknownId, byteFallback: model.byte_fallback === true });
}
