/**
 * Text to token ids and back, from a checkpoint's tokenizer.json or its SentencePiece model.
 *
 * In      a Hugging Face folder: tokenizer.json, else tokenizer.model and tokenizer_config.json
 * Out     ids as Hugging Face's tokenizers gives them; text without its legacy `clean_up_tokenization_spaces`, which joins
 *         " ," to "," and so cannot be streamed (vLLM and TGI leave it out too)
 * Limits  MAX_TOKENIZER_FILE_BYTES, MAX_VOCABULARY ids
 * Errors  CHECKPOINT_INVALID when a file is missing, damaged or uses a part that is not known
 * Source  the parts: tokenizer-json.ts; README.md says how they were compared
 */
import path from 'node:path';
import { ServingError } from '../../proto/errors.js';
import { readBytes, readJsonObject } from './checkpoint-text-file.js';
import { type IncrementalDetokenizer, WindowDetokenizer } from './incremental-detokenizer.js';
import { readSentencePieceFile } from './sentencepiece-file.js';
import { sentencePieceParts } from './sentencepiece-tokenizer.js';
import { readTokenizerJson, type TokenizerParts } from './tokenizer-json.js';

const LONE_SURROGATE = /\p{Surrogate}/gu;

export class Tokenizer {
  /** Largest id + 1, added tokens included. A model's logits may be wider (padding). */
  readonly vocabSize: number;
  private readonly parts: TokenizerParts;
  /** An ordinary token that decodes to visible text, found at first use: what stands before a token shown alone. */
  private neighbour: { id: number; units: number } | null = null;

  private constructor(parts: TokenizerParts) {
    this.parts = parts;
    this.vocabSize = parts.tokens.length;
  }

  /**
   * Reads and checks a checkpoint's tokenizer.
   *
   * @param modelFolder absolute path of the checkpoint
   * @throws ServingError CHECKPOINT_INVALID
   */
  static async load(modelFolder: string): Promise<Tokenizer> {
    const json = readJsonObject(path.join(modelFolder, 'tokenizer.json'));
    if (json === null) {
      const model = readBytes(path.join(modelFolder, 'tokenizer.model'));
      if (model !== null) {
        const config = readJsonObject(path.join(modelFolder, 'tokenizer_config.json')) ?? {};
        return Tokenizer.fromSentencePiece(model, config);
      }
      throw new ServingError(
        'CHECKPOINT_INVALID',
        `No tokenizer.json and no tokenizer.model in ${modelFolder}. A checkpoint that has only vocab files can be converted by ` +
          'transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)',
      );
    }
    return Tokenizer.fromJson(json);
  }

  /**
   * A tokenizer from the parsed file.
   *
   * @throws ServingError CHECKPOINT_INVALID
   */
  static fromJson(json: Record<string, unknown>): Tokenizer {
    return new Tokenizer(readTokenizerJson(json));
  }

  /**
   * A tokenizer from a SentencePiece model.
   *
   * @param config tokenizer_config.json; null: the model alone, where no special token can be spelled out
   * @throws ServingError CHECKPOINT_INVALID
   */
  static fromSentencePiece(model: Uint8Array, config: Record<string, unknown> | null): Tokenizer {
    return new Tokenizer(sentencePieceParts(readSentencePieceFile(model), config));
  }

  /**
   * Token ids of a text. Special tokens spelled out in the text become their ids, as in the reference implementation.
   *
   * @param options.addSpecialTokens whether the tokenizer adds its own (begin of text, …); default true
   */
  encode(text: string, options: { addSpecialTokens?: boolean } = {}): number[] {
    // Half a surrogate pair is no text: what UTF-8 makes of it.
    const ids = this.parts.encode(text.replace(LONE_SURROGATE, '\ufffd'));
    const { before, after } = this.parts.frame;
    return options.addSpecialTokens === false ? ids : [...before, ...ids, ...after];
  }

  /**
   * Text of a list of ids.
   *
   * @param ids those outside the vocabulary are left out
   * @param options.skipSpecialTokens leave out special tokens; default true
   */
  decode(ids: readonly number[], options: { skipSpecialTokens?: boolean } = {}): string {
    const skip = options.skipSpecialTokens ?? true;
    return this.decodeKnown(ids.filter((id) => this.hasText(id, skip)));
  }

  /** Text of one token as it stands in the middle of a text: with its leading space. '' outside the vocabulary. */
  tokenText(id: number): string {
    if (!this.hasText(id, false)) return '';
    this.neighbour ??= this.findNeighbour();
    return this.decodeKnown([this.neighbour.id, id]).slice(this.neighbour.units);
  }

  /** The id of a token by its own text; null: there is no such token. */
  idOf(token: string): number | null {
    const id = this.parts.tokens.indexOf(token);
    return id < 0 ? null : id;
  }

  isSpecial(id: number): boolean {
    return this.parts.specialIds.has(id);
  }

  /**
   * A decoder for one generated text.
   *
   * @param options.context ids before the first one (the prompt's last four are enough): without them the first token is
   *        taken for the start of a text and SentencePiece drops its space
   */
  detokenizer(options: { skipSpecialTokens: boolean; context?: readonly number[] }): IncrementalDetokenizer {
    return new WindowDetokenizer(
      (ids) => this.decodeKnown(ids),
      (id) => this.hasText(id, options.skipSpecialTokens),
      options.context ?? [],
    );
  }

  private hasText(id: number, skipSpecialTokens: boolean): boolean {
    const token = this.parts.tokens[id];
    return token !== undefined && token !== '' && !(skipSpecialTokens && this.parts.specialIds.has(id));
  }

  /** Special tokens were filtered by id before. */
  private decodeKnown(ids: readonly number[]): string {
    if (ids.length === 0) return '';
    return this.parts.decode(ids.map((id) => this.parts.tokens[id] ?? '')).join('');
  }

  private findNeighbour(): { id: number; units: number } {
    for (let id = 0; id < this.vocabSize; id += 1) {
      if (!this.hasText(id, true)) continue;
      const text = this.decodeKnown([id]);
      if (/^[\x21-\x7e]+$/.test(text) && !text.startsWith('<')) return { id, units: text.length };
    }
    // No printable token at all: byte tokens alone. The first id, shown with what it decodes to.
    return { id: 0, units: this.decodeKnown([0]).length };
  }
}
