/**
 * Text to token ids and back, from a checkpoint's tokenizer.json or its SentencePiece model.
 *
 * In      a Hugging Face folder: tokenizer.json, else tokenizer.model and tokenizer_config.json; else the metadata of a GGUF file
 * Out     ids as Hugging Face's tokenizers gives them; text as detokenizer.ts makes it
 * Limits  MAX_TOKENIZER_FILE_BYTES, MAX_VOCABULARY ids, MAX_TOKEN_UNITS a token. A checkpoint's expressions may run without end: the server
 *         runs this in a process of its own (engines/llm/tokenizer-process.ts)
 * Errors  CHECKPOINT_INVALID when a file is missing, damaged or uses a part that is not known
 * Source  the parts: tokenizer-json.ts; README.md says how they were compared
 */
import path from 'node:path';
import { ServingError } from '../../proto/errors.js';
import { ggufOf } from '../../proto/gguf-folder.js';
import { type GgufHeader, readGgufHeader } from '../../proto/gguf-header.js';
import { readBytes, readJsonObject } from './checkpoint-text-file.js';
import { Detokenizer, type TokenTable } from './detokenizer.js';
import { ggufTokenizer } from './gguf-tokenizer.js';
import type { PairFrame } from './post-processors.js';
import { readSentencePieceFile } from './sentencepiece-file.js';
import { sentencePieceParts } from './sentencepiece-tokenizer.js';
import { readTokenizerConfig, textFolder } from './tokenizer-config.js';
import { readTokenizerJson, type TokenizerParts } from './tokenizer-json.js';

const LONE_SURROGATE = /\p{Surrogate}/gu;
/** Those in use have up to a few hundred: runs of spaces. */
export const MAX_TOKEN_UNITS = 4096;

export class Tokenizer extends Detokenizer {
  /** What the half that knows no expression needs. */
  readonly table: TokenTable;
  /** Tokens that are set behind every text. */
  readonly trailing: number;
  /** What stands around and between two texts; null: they cannot be put beside each other. */
  readonly pairFrame: PairFrame | null;
  /** UTF-16 units of the longest token. */
  readonly longestUnits: number;
  readonly #parts: TokenizerParts;

  private constructor(parts: TokenizerParts) {
    const { decoder, specialIds, tokens } = parts;
    const table: TokenTable = { tokens, specialIds: [...specialIds], decoder };
    super(table);
    this.#parts = parts;
    this.table = table;
    this.trailing = parts.frame.after.length;
    this.pairFrame = parts.frame.pair;
    this.longestUnits = tokens.reduce((most, token) => Math.max(most, token?.length ?? 0), 0);
    if (this.longestUnits > MAX_TOKEN_UNITS) {
      throw new ServingError(
        'CHECKPOINT_INVALID',
        `A token of the tokenizer has ${this.longestUnits} characters, the limit is ${MAX_TOKEN_UNITS}`,
      );
    }
  }

  /**
   * Reads and checks a checkpoint's tokenizer.
   *
   * @param modelFolder absolute path of the checkpoint: its folder, or its GGUF file
   * @throws ServingError CHECKPOINT_INVALID
   */
  static read(modelFolder: string): Tokenizer {
    const folder = textFolder(modelFolder);
    const json = readJsonObject(path.join(folder, 'tokenizer.json'));
    if (json !== null) return Tokenizer.fromJson(json);
    const model = readBytes(path.join(folder, 'tokenizer.model'));
    if (model !== null) return Tokenizer.fromSentencePiece(model, readTokenizerConfig(modelFolder));
    const gguf = ggufOf(modelFolder);
    if (gguf !== null) return Tokenizer.fromGguf(readGgufHeader(gguf));
    throw new ServingError(
      'CHECKPOINT_INVALID',
      `No tokenizer.json and no tokenizer.model in ${modelFolder}. A checkpoint that has only vocab files can be converted by ` +
        'transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)',
    );
  }

  /** As read, for those who wait anyway. */
  static async load(modelFolder: string): Promise<Tokenizer> {
    return Tokenizer.read(modelFolder);
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

  /** The tokenizer of a GGUF file. @throws ServingError CHECKPOINT_INVALID */
  static fromGguf(header: GgufHeader): Tokenizer {
    const found = ggufTokenizer(header);
    return 'json' in found
      ? Tokenizer.fromJson(found.json)
      : new Tokenizer(sentencePieceParts(found.model, found.config));
  }

  /**
   * Token ids of a text. Special tokens spelled out in the text become their ids, as in the reference implementation.
   *
   * @param options.addSpecialTokens whether the tokenizer adds its own (begin of text, …); default true
   */
  encode(text: string, options: { addSpecialTokens?: boolean } = {}): number[] {
    // Half a surrogate pair is no text: what UTF-8 makes of it.
    const ids = this.#parts.encode(text.replace(LONE_SURROGATE, '\ufffd'));
    const { before, after } = this.#parts.frame;
    return options.addSpecialTokens === false ? ids : [...before, ...ids, ...after];
  }
}
