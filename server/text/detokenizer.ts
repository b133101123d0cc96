/**
 * Token ids to text: the half of a tokenizer that the server's own thread runs, once a token. The other half (tokenizer.ts) runs what
 * a checkpoint brings, expressions that may never end among it, and belongs into a process of its own.
 *
 * In      a TokenTable, which JSON carries
 * Out     text without its legacy `clean_up_tokenization_spaces`, which joins " ," to "," and so cannot be streamed (vLLM and TGI
 *         leave it out too)
 * Limits  those of the decoder: token-decoders.ts
 * Errors  CHECKPOINT_INVALID: a decoder that is not known
 */
import { type IncrementalDetokenizer, WindowDetokenizer } from './incremental-detokenizer.js';
import {
  BYTE_TOKEN,
  createDecoder,
  type DecoderSource,
  decoderKinds,
  type TokenDecoder,
} from './token-decoders.js';
import { lettersToBytes } from './tokenizer-json-parts.js';

export interface TokenTable {
  /** Token of each id; null where an id has none. */
  tokens: readonly (string | null | undefined)[];
  specialIds: readonly number[];
  decoder: DecoderSource;
}

export class Detokenizer {
  /** Largest id + 1, added tokens included. A model's logits may be wider (padding). */
  readonly vocabSize: number;
  readonly #tokens: TokenTable['tokens'];
  readonly #specialIds: ReadonlySet<number>;
  readonly #decode: TokenDecoder;
  readonly #kinds: ReadonlySet<string>;
  /** An ordinary token that decodes to visible text, found at first use: what stands before a token shown alone. */
  #neighbour: { id: number; units: number } | null = null;

  /** @throws ServingError CHECKPOINT_INVALID */
  constructor({ decoder, specialIds, tokens }: TokenTable) {
    this.#tokens = tokens;
    this.#specialIds = new Set(specialIds);
    this.#decode = createDecoder(decoder);
    this.#kinds = decoderKinds(decoder);
    this.vocabSize = tokens.length;
  }

  /**
   * Text of a list of ids.
   *
   * @param ids those outside the vocabulary are left out
   * @param options.skipSpecialTokens leave out special tokens; default true
   */
  decode(ids: readonly number[], options: { skipSpecialTokens?: boolean } = {}): string {
    const skip = options.skipSpecialTokens ?? true;
    return this.#decodeKnown(ids.filter((id) => this.#hasText(id, skip)));
  }

  /** Text of one token as it stands in the middle of a text: with its leading space. '' outside the vocabulary. */
  tokenText(id: number): string {
    if (!this.#hasText(id, false)) return '';
    this.#neighbour ??= this.#findNeighbour();
    return this.#decodeKnown([this.#neighbour.id, id]).slice(this.#neighbour.units);
  }

  /** The bytes of a token in the middle of a text: a part of a character, too. null: it is no text (special, outside the vocabulary). */
  tokenBytes(id: number): Uint8Array | null {
    const token = this.#tokens[id];
    if (token === undefined || token === null || token === '' || this.isSpecial(id)) return null;
    if (this.#kinds.has('ByteLevel')) return Uint8Array.from(lettersToBytes(token) ?? Buffer.from(token));
    const byte = this.#kinds.has('ByteFallback') ? BYTE_TOKEN.exec(token)?.[1] : undefined;
    return byte === undefined ? Buffer.from(this.tokenText(id)) : Uint8Array.of(Number.parseInt(byte, 16));
  }

  /** The id of a token by its own text; null: there is no such token. */
  idOf(token: string): number | null {
    const id = this.#tokens.indexOf(token);
    return id < 0 ? null : id;
  }

  isSpecial(id: number): boolean {
    return this.#specialIds.has(id);
  }

  /**
   * A decoder for one generated text.
   *
   * @param options.context ids before the first one (the prompt's last four are enough): without them the first token is
   *        taken for the start of a text and SentencePiece drops its space
   */
  detokenizer(options: { skipSpecialTokens: boolean; context?: readonly number[] }): IncrementalDetokenizer {
    return new WindowDetokenizer(
      (ids) => this.#decodeKnown(ids),
      (id) => this.#hasText(id, options.skipSpecialTokens),
      options.context ?? [],
    );
  }

  #hasText(id: number, skipSpecialTokens: boolean): boolean {
    const token = this.#tokens[id];
    return (
      token !== undefined &&
      token !== null &&
      token !== '' &&
      !(skipSpecialTokens && this.#specialIds.has(id))
    );
  }

  /** Special tokens were filtered by id before. */
  #decodeKnown(ids: readonly number[]): string {
    if (ids.length === 0) return '';
    return this.#decode(ids.map((id) => this.#tokens[id] ?? '')).join('');
  }

  #findNeighbour(): { id: number; units: number } {
    for (let id = 0; id < this.vocabSize; id += 1) {
      if (!this.#hasText(id, true)) continue;
      const text = this.#decodeKnown([id]);
      if (/^[\x21-\x7e]+$/.test(text) && !text.startsWith('<')) return { id, units: text.length };
    }
    // No printable token at all: byte tokens alone. The first id, shown with what it decodes to.
    return { id: 0, units: this.#decodeKnown([0]).length };
  }
}
