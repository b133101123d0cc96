/**
 * Unigram: the cutting of a text into tokens whose scores have the largest sum.
 *
 * In      tokens with their scores (logarithms of probabilities)
 * Out     ids of a piece
 * Limits  a piece of n characters costs n times the number of tokens that begin at one place
 * Errors  none: what no token covers is the unknown token, or its bytes
 * Pure    yes
 * Source  Hugging Face tokenizers' Unigram and SentencePiece's unigram_model.cc, which add alike: Viterbi from the left, the first of two
 *         equal paths stays; a character that is no token scores 10 below the worst one
 */
import { PrefixIndex } from './prefix-index.js';
import type { TokenModel } from './token-model.js';

export interface ScoredPiece {
  text: string;
  score: number;
  /** Whether the text of a token may be found in a text: not control tokens and unused ones. Default true. */
  isText?: boolean;
}

const UNKNOWN_PENALTY = 10;

export class UnigramModel implements TokenModel {
  readonly tokens: readonly string[];
  readonly #ids = new Map<string, number>();
  readonly #scores: readonly number[];
  readonly #index: PrefixIndex;
  readonly #unknownId: number;
  readonly #unknownScore: number;
  readonly #byteIds: readonly number[] | null;
  readonly #round: (score: number) => number;

  /** @param options.singlePrecision add as SentencePiece does, in float32 */
  constructor(
    pieces: readonly ScoredPiece[],
    options: { unknownId: number; byteFallback: boolean; leastScore?: number; singlePrecision?: boolean },
  ) {
    this.#round = options.singlePrecision === true ? Math.fround : (score) => score;
    this.tokens = pieces.map(({ text }) => text);
    this.#scores = pieces.map(({ score }) => this.#round(score));
    for (const [id, { text, isText }] of pieces.entries()) if (isText !== false) this.#ids.set(text, id);
    this.#index = new PrefixIndex(this.#ids.keys());
    this.#unknownId = options.unknownId;
    const least = options.leastScore ?? this.#scores.reduce((low, score) => Math.min(low, score), Infinity);
    this.#unknownScore = this.#round(least - UNKNOWN_PENALTY);
    this.#byteIds = options.byteFallback ? byteTokenIds(this.tokens) : null;
  }

  encode(piece: string, ids: number[]): void {
    const { from, chosen } = this.#bestPath(piece);
    const spans: { start: number; end: number; id: number }[] = [];
    for (let end = piece.length; end > 0; ) {
      const start = from[end] as number;
      const id = chosen[end] as number;
      const next = spans.at(-1);
      // A run of unknown characters is one unknown token.
      if (next !== undefined && next.id === this.#unknownId && id === this.#unknownId) next.start = start;
      else spans.push({ start, end, id });
      end = start;
    }
    for (const { start, end, id } of spans.reverse()) {
      if (id !== this.#unknownId) ids.push(id);
      else this.#encodeUnknown(piece.slice(start, end), ids);
    }
  }

  /** For each end: where the token of the best path that ends there starts, and its id. */
  #bestPath(piece: string): { from: Int32Array; chosen: Int32Array } {
    const from = new Int32Array(piece.length + 1).fill(-1);
    const chosen = new Int32Array(piece.length + 1);
    const best = new Float64Array(piece.length + 1);
    const offer = (start: number, end: number, id: number, score: number): void => {
      const total = this.#round(score + (best[start] as number));
      if (from[end] !== -1 && total <= (best[end] as number)) return;
      best[end] = total;
      from[end] = start;
      chosen[end] = id;
    };
    for (let start = 0; start < piece.length; ) {
      const units = (piece.codePointAt(start) as number) > 0xffff ? 2 : 1;
      let hasSingle = false;
      this.#index.visitAt(piece, start, (token) => {
        const id = this.#ids.get(token) as number;
        offer(start, start + token.length, id, this.#scores[id] as number);
        hasSingle ||= token.length === units;
      });
      if (!hasSingle) offer(start, start + units, this.#unknownId, this.#unknownScore);
      start += units;
    }
    return { from, chosen };
  }

  #encodeUnknown(text: string, ids: number[]): void {
    const whole = this.#ids.get(text);
    if (whole !== undefined) ids.push(whole);
    else if (this.#byteIds === null) ids.push(this.#unknownId);
    else for (const byte of Buffer.from(text, 'utf8')) ids.push(this.#byteIds[byte] as number);
  }
}

/** Ids of <0x00> … <0xFF>, or null when one is missing. */
export function byteTokenIds(tokens: readonly (string | undefined)[]): number[] | null {
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const bytes: number[] = [];
  for (let byte = 0; byte < 256; byte += 1) {
    const id = ids.get(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
    if (id === undefined) return null;
    bytes.push(id);
  }
  return bytes;
}
