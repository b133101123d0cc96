/**
 * Text to token ids and back, from a checkpoint's tokenizer.json.
 *
 * In      a Hugging Face folder: tokenizer.json (required), tokenizer_config.json
 * Out     ids as Hugging Face's tokenizers gives them; text without its legacy `clean_up_tokenization_spaces`, which joins
 *         " ," to "," and so cannot be streamed (vLLM and TGI leave it out too)
 * Limits  MAX_TOKENIZER_FILE_BYTES, MAX_VOCABULARY ids
 * Errors  CHECKPOINT_INVALID when a file is missing, damaged or uses a part that is not known
 * Source  the algorithms are @huggingface/tokenizers'; this file checks what goes in and adds incremental decoding
 */
import path from 'node:path';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { ServingError } from '../../proto/errors.js';
import { isObject, readJsonObject } from './checkpoint-text-file.js';
import { type IncrementalDetokenizer, WindowDetokenizer } from './incremental-detokenizer.js';

/** Ids are below this: the library keeps the vocabulary as an array by id. */
const MAX_VOCABULARY = 1 << 24;

/** The part of the library that is used; its own declarations do not resolve under NodeNext. */
interface LibraryTokenizer {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: (number | undefined)[] };
  decode(
    ids: number[],
    options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean },
  ): string;
  readonly model: { readonly vocab: readonly (string | undefined)[] };
}

export class Tokenizer {
  /** Largest id + 1, added tokens included. A model's logits may be wider (padding). */
  readonly vocabSize: number;
  private readonly library: LibraryTokenizer;
  private readonly specialIds: ReadonlySet<number>;
  /** An ordinary token that decodes to visible text, found at first use: what stands before a token shown alone. */
  private neighbour: { id: number; units: number } | null = null;

  private constructor(library: LibraryTokenizer, specialIds: ReadonlySet<number>) {
    this.library = library;
    this.specialIds = specialIds;
    this.vocabSize = library.model.vocab.length;
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
      throw new ServingError(
        'CHECKPOINT_INVALID',
        `No tokenizer.json in ${modelFolder}. A checkpoint that has only tokenizer.model or vocab files can be converted by ` +
          'transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)',
      );
    }
    const config = readJsonObject(path.join(modelFolder, 'tokenizer_config.json')) ?? {};
    return Tokenizer.fromJson(json, config);
  }

  /**
   * A tokenizer from the parsed files.
   *
   * @throws ServingError CHECKPOINT_INVALID
   */
  static fromJson(json: Record<string, unknown>, config: Record<string, unknown>): Tokenizer {
    const specialIds = checkVocabulary(json);
    let library: LibraryTokenizer;
    try {
      library = new HuggingFaceTokenizer(json, config) as unknown as LibraryTokenizer;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new ServingError('CHECKPOINT_INVALID', `tokenizer.json cannot be used: ${reason}`, {
        cause: error,
      });
    }
    return new Tokenizer(library, specialIds);
  }

  /**
   * Token ids of a text. Special tokens spelled out in the text become their ids, as in the reference implementation.
   *
   * @param options.addSpecialTokens whether the tokenizer adds its own (begin of text, …); default true
   */
  encode(text: string, options: { addSpecialTokens?: boolean } = {}): number[] {
    const { ids } = this.library.encode(text, { add_special_tokens: options.addSpecialTokens ?? true });
    // A text without an id (no unknown-token in the vocabulary) is left out, as the reference does.
    return ids.filter((id) => id !== undefined);
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

  isSpecial(id: number): boolean {
    return this.specialIds.has(id);
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
    const token = this.library.model.vocab[id];
    return token !== undefined && token !== '' && !(skipSpecialTokens && this.specialIds.has(id));
  }

  /** The library refuses an empty list. Special tokens were filtered by id before. */
  private decodeKnown(ids: readonly number[]): string {
    if (ids.length === 0) return '';
    return this.library.decode(ids as number[], {
      skip_special_tokens: false,
      clean_up_tokenization_spaces: false,
    });
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

/**
 * Checks what the library would trust: ids are array indices there.
 *
 * @returns ids of the special tokens
 */
function checkVocabulary(json: Record<string, unknown>): ReadonlySet<number> {
  const model = json.model;
  if (!isObject(model)) throw invalid("tokenizer.json has no 'model' object");
  const vocab = model.vocab;
  if (Array.isArray(vocab)) {
    if (vocab.length > MAX_VOCABULARY)
      throw invalid(`tokenizer.json has ${vocab.length} tokens, the limit is ${MAX_VOCABULARY}`);
  } else if (isObject(vocab)) {
    for (const [token, id] of Object.entries(vocab)) checkId(token, id);
  } else {
    throw invalid("tokenizer.json has no 'vocab' in its 'model'");
  }
  const added = json.added_tokens ?? [];
  if (!Array.isArray(added)) throw invalid("'added_tokens' of tokenizer.json is not a list");
  json.added_tokens = added;
  const specialIds = new Set<number>();
  for (const entry of added) {
    if (!isObject(entry) || typeof entry.content !== 'string') {
      throw invalid("an entry of 'added_tokens' of tokenizer.json has no 'content'");
    }
    const id = checkId(entry.content, entry.id);
    if (entry.special === true) specialIds.add(id);
  }
  return specialIds;
}

function checkId(token: string, id: unknown): number {
  if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= MAX_VOCABULARY) {
    throw invalid(
      `tokenizer.json gives token ${JSON.stringify(token.slice(0, 40))} the id ${String(id)}, must be 0 … ${MAX_VOCABULARY - 1}`,
    );
  }
  return id;
}

function invalid(message: string): ServingError {
  return new ServingError('CHECKPOINT_INVALID', message);
}
