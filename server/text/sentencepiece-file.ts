/**
 * Reads a SentencePiece model (tokenizer.model): the subset of its protobuf that says how text becomes ids.
 *
 * In      the bytes of the file
 * Out     pieces with scores and kinds, the normalizer's settings, the kind of model
 * Limits  MAX_VOCABULARY pieces; the file's size is checked by checkpoint-text-file.ts
 * Errors  CHECKPOINT_INVALID: no such protobuf, no pieces, a kind that is not known
 * Source  field numbers of sentencepiece_model.proto
 */
import { createRequire } from 'node:module';
import type protobuf from 'protobufjs';
import { ServingError } from '../../proto/errors.js';
import { MAX_VOCABULARY } from './tokenizer-json.js';

export const PIECE_KIND = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;
const MODEL_KINDS: Readonly<Record<number, 'unigram' | 'bpe'>> = { 1: 'unigram', 2: 'bpe' };

export interface SentencePieceFile {
  kind: 'unigram' | 'bpe';
  pieces: { piece: string; score: number; type: number }[];
  byteFallback: boolean;
  whitespaceAsSuffix: boolean;
  unknownSurface: string;
  bosId: number;
  eosId: number;
  charsmap: Uint8Array;
  addDummyPrefix: boolean;
  removeExtraWhitespaces: boolean;
  escapeWhitespaces: boolean;
}

const PROTO = `
  syntax = "proto2";
  message Model { repeated Piece pieces = 1; optional Trainer trainer = 2; optional Normalizer normalizer = 3; optional Normalizer denormalizer = 5; }
  message Piece { optional string piece = 1; optional float score = 2; optional int32 type = 3 [default = 1]; }
  message Trainer {
    optional int32 modelType = 3 [default = 1];
    optional bool whitespaceAsSuffix = 24;
    optional bool byteFallback = 35;
    optional int32 bosId = 41 [default = 1];
    optional int32 eosId = 42 [default = 2];
    optional string unknownSurface = 44;
  }
  message Normalizer {
    optional bytes charsmap = 2;
    optional bool addDummyPrefix = 3 [default = true];
    optional bool removeExtraWhitespaces = 4 [default = true];
    optional bool escapeWhitespaces = 5 [default = true];
  }
`;

let known: protobuf.Type | null = null;

/** Made for the first such file: most tokenizers have none, and their processes do without 3 MB of code. */
function modelType(): protobuf.Type {
  known ??= (createRequire(import.meta.url)('protobufjs') as typeof protobuf)
    .parse(PROTO)
    .root.lookupType('Model');
  return known;
}

interface Decoded {
  pieces: { piece: string; score: number; type: number }[];
  trainer?: {
    modelType: number;
    whitespaceAsSuffix: boolean;
    byteFallback: boolean;
    bosId: number;
    eosId: number;
    unknownSurface: string;
  };
  normalizer?: {
    charsmap: Uint8Array;
    addDummyPrefix: boolean;
    removeExtraWhitespaces: boolean;
    escapeWhitespaces: boolean;
  };
  denormalizer?: { charsmap: Uint8Array };
}

/** @throws ServingError CHECKPOINT_INVALID */
export function readSentencePieceFile(bytes: Uint8Array): SentencePieceFile {
  let model: Decoded;
  try {
    model = modelType().decode(bytes) as unknown as Decoded;
  } catch (error) {
    throw invalidModel('is no SentencePiece model', error);
  }
  const { pieces, trainer, normalizer } = model;
  if (pieces.length === 0) throw invalidModel('is no SentencePiece model: it has no pieces');
  if (pieces.length > MAX_VOCABULARY)
    throw invalidModel(`has ${pieces.length} pieces, the limit is ${MAX_VOCABULARY}`);
  const kind = MODEL_KINDS[trainer?.modelType ?? 1];
  if (kind === undefined)
    throw invalidModel(`has the model type ${trainer?.modelType}; known are 1 (unigram) and 2 (bpe)`);
  if ((model.denormalizer?.charsmap.length ?? 0) > 0)
    throw invalidModel('has a table for decoded text (denormalizer), which is not supported');
  if (pieces.filter(({ type }) => type === PIECE_KIND.unknown).length !== 1)
    throw invalidModel('has not exactly one unknown piece');
  for (const { piece, score } of pieces) {
    if (piece === '' || !Number.isFinite(score))
      throw invalidModel(`has the piece ${JSON.stringify(piece.slice(0, 40))} with the score ${score}`);
  }
  return {
    kind,
    pieces,
    byteFallback: trainer?.byteFallback ?? false,
    whitespaceAsSuffix: trainer?.whitespaceAsSuffix ?? false,
    unknownSurface: trainer?.unknownSurface || ' \u2047 ',
    bosId: trainer?.bosId ?? 1,
    eosId: trainer?.eosId ?? 2,
    charsmap: normalizer?.charsmap ?? new Uint8Array(),
    addDummyPrefix: normalizer?.addDummyPrefix ?? true,
    removeExtraWhitespaces: normalizer?.removeExtraWhitespaces ?? true,
    escapeWhitespaces: normalizer?.escapeWhitespaces ?? true,
  };
}

export function invalidModel(message: string, cause?: unknown): ServingError {
  return new ServingError('CHECKPOINT_INVALID', `tokenizer.model ${message}`, { cause });
}
