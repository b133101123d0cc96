/**
 * A tokenizer from a SentencePiece model and tokenizer_config.json, for checkpoints without tokenizer.json.
 *
 * In      SentencePieceFile; added_tokens_decoder, legacy, add_bos_token, add_eos_token of tokenizer_config.json, or null: the model alone
 * Out     TokenizerParts
 * Errors  CHECKPOINT_INVALID naming the field
 * Source  SentencePiece's normalizer.cc and sentencepiece_processor.cc; what surrounds the model is transformers' LlamaTokenizer
 *
 * `legacy: false` sets the space of the dummy prefix at the start of the text only, otherwise it stands after every added token too.
 */
import { isObject } from '../../proto/is-object.js';
import { type AddedToken, AddedTokenSplitter } from './added-tokens.js';
import { PrecompiledCharsmap } from './precompiled-charsmap.js';
import { PrefixIndex } from './prefix-index.js';
import { joinSymbols } from './sentencepiece-bpe.js';
import { invalidModel, PIECE_KIND, type SentencePieceFile } from './sentencepiece-file.js';
import type { DecoderSource } from './token-decoders.js';
import { readAddedToken, type TokenizerParts } from './tokenizer-json.js';
import { byteTokenIds, UnigramModel } from './unigram-model.js';

const SPACE_MARK = '▁';

/** @param config null: the model alone, without any token that text could spell out */
export function sentencePieceParts(
  file: SentencePieceFile,
  config: Record<string, unknown> | null,
): TokenizerParts {
  const userDefined = new PrefixIndex(textsOf(file, PIECE_KIND.userDefined));
  const normalize = createNormalizer(file, userDefined);
  const encodeNormalized = file.kind === 'bpe' ? bpeEncoder(file, userDefined) : unigramEncoder(file);
  const tokens: (string | undefined)[] = file.pieces.map(({ piece }) => piece);
  const addedTokens = config === null ? [] : addedTokensOf(file, config);
  for (const { id, content } of addedTokens) tokens[id] = content;
  const splitter = new AddedTokenSplitter(new Map(addedTokens.map((token) => [token.content, token])));
  const isLegacy = config?.legacy !== false;
  return {
    encode: (text) => {
      const ids: number[] = [];
      for (const [index, piece] of splitter.split(text).entries()) {
        if (typeof piece === 'number') ids.push(piece);
        else encodeNormalized(normalize(piece, isLegacy || index === 0), ids);
      }
      return ids;
    },
    frame: frameOf(file, config ?? {}),
    decoder: decoderSource(file),
    tokens,
    specialIds: new Set(addedTokens.filter(({ special }) => special).map(({ id }) => id)),
  };
}

function textsOf(file: SentencePieceFile, type: number): string[] {
  return file.pieces.filter((entry) => entry.type === type).map(({ piece }) => piece);
}

function createNormalizer(
  file: SentencePieceFile,
  userDefined: PrefixIndex,
): (text: string, addPrefix: boolean) => string {
  const charsmap = file.charsmap.length > 0 ? new PrecompiledCharsmap(file.charsmap) : null;
  const space = file.escapeWhitespaces ? SPACE_MARK : ' ';
  /** The text, rule by rule: the longest one at each place, user-defined symbols before all. */
  const rewritten = function* (text: string): Generator<string> {
    const bytes = charsmap === null ? null : Buffer.from(text, 'utf8');
    for (let at = 0, byte = 0; at < text.length; ) {
      const symbol = userDefined.longestAt(text, at);
      const rule = symbol === null && bytes !== null ? (charsmap?.longest(bytes, byte) ?? null) : null;
      const taken =
        symbol ??
        (rule === null || bytes === null
          ? String.fromCodePoint(text.codePointAt(at) as number)
          : bytes.toString('utf8', byte, byte + rule.bytes));
      yield rule?.replacement ?? taken;
      at += taken.length;
      byte += Buffer.byteLength(taken, 'utf8');
    }
  };
  return (text, addPrefix) => {
    if (text === '') return '';
    let result = '';
    let afterSpace = file.removeExtraWhitespaces;
    for (const part of rewritten(text)) {
      const kept = afterSpace ? part.replace(/^ +/, '') : part;
      if (kept === '') continue;
      result += kept.replaceAll(' ', space);
      afterSpace = file.removeExtraWhitespaces && kept.endsWith(' ');
    }
    if (file.removeExtraWhitespaces) {
      let end = result.length;
      while (end > 0 && result.startsWith(space, end - 1)) end -= 1;
      result = result.slice(0, end);
      if (result === '') return '';
    }
    if (!file.addDummyPrefix || !addPrefix) return result;
    return file.whitespaceAsSuffix ? result + space : space + result;
  };
}

type Encoder = (text: string, ids: number[]) => void;

function bpeEncoder(file: SentencePieceFile, frozen: PrefixIndex): Encoder {
  const ids = new Map<string, number>();
  const unused = new Set<number>();
  for (const [id, { piece, type }] of file.pieces.entries()) {
    if (type === PIECE_KIND.normal || type === PIECE_KIND.userDefined || type === PIECE_KIND.unused)
      ids.set(piece, id);
    if (type === PIECE_KIND.unused) unused.add(id);
  }
  const unknownId = file.pieces.findIndex(({ type }) => type === PIECE_KIND.unknown);
  const byteIds = byteIdsOf(file);
  const pieces = { ids, unused, frozen, scores: file.pieces.map(({ score }) => score) };
  return (text, out) => {
    let afterUnknown = false;
    joinSymbols(text, pieces, (symbol, id) => {
      const isUnknown = id === undefined;
      if (!isUnknown) out.push(id);
      else if (byteIds !== null)
        for (const byte of Buffer.from(symbol, 'utf8')) out.push(byteIds[byte] as number);
      else if (!afterUnknown) out.push(unknownId);
      afterUnknown = isUnknown;
    });
  };
}

function byteIdsOf(file: SentencePieceFile): number[] | null {
  if (!file.byteFallback) return null;
  const ids = byteTokenIds(file.pieces.map(({ piece }) => piece));
  if (ids === null) throw invalidModel('falls back to bytes, but has not all byte pieces');
  return ids;
}

/** A user-defined symbol's score is 0, above all others. */
function unigramEncoder(file: SentencePieceFile): Encoder {
  byteIdsOf(file);
  const leastScore = file.pieces.reduce(
    (low, { score, type }) => (type === PIECE_KIND.normal ? Math.min(low, score) : low),
    Infinity,
  );
  const model = new UnigramModel(
    file.pieces.map(({ piece, score, type }) => ({
      text: piece,
      score,
      isText: type === PIECE_KIND.normal || type === PIECE_KIND.userDefined,
    })),
    {
      unknownId: file.pieces.findIndex(({ type }) => type === PIECE_KIND.unknown),
      byteFallback: file.byteFallback,
      leastScore,
      singlePrecision: true,
    },
  );
  return (text, ids) => model.encode(text, ids);
}

function decoderSource(file: SentencePieceFile): DecoderSource {
  return {
    kind: 'sentencepiece',
    unknown: file.pieces.find(({ type }) => type === PIECE_KIND.unknown)?.piece ?? null,
    unknownSurface: file.unknownSurface,
    controls: textsOf(file, PIECE_KIND.control),
    addDummyPrefix: file.addDummyPrefix,
    removeExtraWhitespaces: file.removeExtraWhitespaces,
  };
}

function addedTokensOf(file: SentencePieceFile, config: Record<string, unknown>): AddedToken[] {
  const tokens = new Map<string, AddedToken>();
  for (const [id, { piece, type }] of file.pieces.entries()) {
    if (type === PIECE_KIND.control || type === PIECE_KIND.unknown)
      tokens.set(piece, readAddedToken({ id, content: piece, special: true }));
  }
  const listed = config.added_tokens_decoder ?? {};
  if (!isObject(listed)) throw invalidModel("comes with an 'added_tokens_decoder' that is no object");
  for (const [id, entry] of Object.entries(listed)) {
    const token = readAddedToken(isObject(entry) ? { ...entry, id: Number(id) } : entry);
    tokens.set(token.content, token);
  }
  return [...tokens.values()];
}

function frameOf(file: SentencePieceFile, config: Record<string, unknown>): TokenizerParts['frame'] {
  const isT5 = typeof config.tokenizer_class === 'string' && config.tokenizer_class.startsWith('T5');
  const addBos = config.add_bos_token ?? (file.kind === 'bpe' && !isT5);
  const addEos = config.add_eos_token ?? isT5;
  const known = (id: number): number[] => (file.pieces[id] === undefined ? [] : [id]);
  return {
    before: addBos === true ? known(file.bosId) : [],
    after: addEos === true ? known(file.eosId) : [],
    pair: null,
  };
}
