/**
 * Prompt → token ids: text, ready ids, or a chat through the checkpoint's template.
 *
 * In      Prompt of a request; of a text to embed, where it is cut, of a prompt, how much of its end counts; how many tokens there is room for
 * Out     token ids; one prompt object that several requests share (n, best_of) is encoded once
 * Cut     the end of the text goes, the special tokens that the tokenizer puts behind it stay, as in Hugging Face's tokenizers; of a prompt
 *         the beginning goes, a special token that stands there too, as Text Generation Inference has it
 * Limits  a text of more characters than the room's tokens can have is refused before it is tokenised or rendered; both run in processes
 *         of their own, within their limits
 * Errors  BAD_REQUEST: an id outside the vocabulary; PROMPT_TOO_LONG; NO_CHAT_TEMPLATE; CANCELLED: the client left while the prompt
 *         waited; those of chat-renderer.ts and tokenizer-process.ts
 */
import { ServingError } from '../../../proto/errors.js';
import type { ModelInfo } from '../../../proto/manifest.js';
import type { Prompt } from '../../requests/generate-request.js';
import type { ChatRenderer } from './chat-renderer.js';
import { checkTokenId } from './sampling.js';
import type { TokenizerProcess } from './tokenizer-process.js';

/** However short the tokens of a vocabulary are: white space that a tokenizer drops counts too. */
const LEAST_TOKEN_CHARACTERS = 16;
const LEAST_ROOM_CHARACTERS = 64 * 1024;

export interface PromptEncoderOptions {
  tokenizer: Pick<TokenizerProcess, 'encode' | 'close'> & {
    facts: Pick<TokenizerProcess['facts'], 'trailing' | 'longestUnits'> & {
      pairFrame?: TokenizerProcess['facts']['pairFrame'];
    };
  };
  /** null: the checkpoint has no template. */
  chatRenderer: Pick<ChatRenderer, 'render' | 'close'> | null;
  vocabSize: number;
  /** An embedding model's: what is done to a text before. */
  embedding?: Pick<NonNullable<ModelInfo['embedding']>, 'lowerCase' | 'prefix'> | undefined;
}

export interface EncodeOptions {
  /** Tokens that are left of a longer prompt; null: all. */
  cutAt?: number | null;
  /** Tokens that are left of a longer prompt, its last; null: all. */
  keepLast?: number | null;
  /** Tokens that a prompt can have at most. */
  room?: number;
  signal?: AbortSignal;
}

/** Ids, and where the second of two texts begins, if a model is told. */
export interface EncodedTexts {
  ids: readonly number[];
  secondTextAt: number | null;
}

export class PromptEncoder {
  readonly #options: PromptEncoderOptions;
  /** Ids of prompts that are being encoded, or are still held by their requests. */
  readonly #encoded = new WeakMap<Prompt, Promise<readonly number[]>>();

  constructor(options: PromptEncoderOptions) {
    this.#options = options;
  }

  /** @throws ServingError */
  async encode(prompt: Prompt, options: EncodeOptions = {}): Promise<readonly number[]> {
    const { vocabSize } = this.#options;
    const { cutAt = null, keepLast = null } = options;
    const kept = (ids: readonly number[]): readonly number[] =>
      keepLast === null || ids.length <= keepLast ? ids : ids.slice(-keepLast);
    if (prompt.kind === 'ids') {
      for (const id of prompt.ids) checkTokenId(id, vocabSize, 'prompt');
      return kept(cutAt === null ? prompt.ids : prompt.ids.slice(0, cutAt));
    }
    let encoding = this.#encoded.get(prompt);
    if (encoding === undefined) {
      encoding = this.#encodeText(prompt, options);
      this.#encoded.set(prompt, encoding);
    }
    const ids = await encoding;
    return kept(prompt.kind === 'text' ? this.#cut(ids, cutAt) : ids);
  }

  /** A text within another: without the special tokens around a prompt. */
  async encodePiece(text: string, signal?: AbortSignal): Promise<readonly number[]> {
    const { tokenizer, vocabSize } = this.#options;
    const ids = await tokenizer.encode(text, false, signal);
    return ids.filter((id) => id < vocabSize);
  }

  /** Two texts beside each other. Of a cut the longer text loses first. @throws ServingError */
  async encodePair(
    text: string,
    second: string,
    { cutAt = null, room = Number.POSITIVE_INFINITY, signal }: EncodeOptions = {},
  ): Promise<EncodedTexts> {
    const { tokenizer, vocabSize } = this.#options;
    const frame = tokenizer.facts.pairFrame ?? null;
    if (frame === null) {
      const why =
        "This model's tokenizer does not say how two texts stand beside each other (post_processor of tokenizer.json)";
      throw new ServingError('BAD_REQUEST', why);
    }
    if (cutAt === null) this.#checkRoom(text.length + second.length, room);
    const both = [
      await tokenizer.encode(text, false, signal),
      await tokenizer.encode(second, false, signal),
    ] as const;
    for (const id of both.flat()) checkTokenId(id, vocabSize, 'prompt');
    const { after, before, between, secondAt } = frame;
    const own = before.length + between.length + after.length;
    const [first, last] = cutPair(both, cutAt === null ? Number.POSITIVE_INFINITY : Math.max(0, cutAt - own));
    return {
      ids: [...before, ...first, ...between, ...last, ...after],
      secondTextAt: secondAt === null ? null : before.length + first.length + secondAt,
    };
  }

  async close(): Promise<void> {
    const { chatRenderer, tokenizer } = this.#options;
    await Promise.all([tokenizer.close(), chatRenderer?.close()]);
  }

  async #encodeText(
    prompt: Exclude<Prompt, { kind: 'ids' }>,
    { cutAt = null, keepLast = null, room = Number.POSITIVE_INFINITY, signal }: EncodeOptions,
  ): Promise<readonly number[]> {
    const { tokenizer, vocabSize } = this.#options;
    // A text that is cut may be longer: the tokenizer's own limits hold.
    const most = cutAt === null && keepLast === null ? room : Number.POSITIVE_INFINITY;
    const isText = prompt.kind === 'text';
    const text = isText ? this.#prepared(prompt.text) : await this.#rendered(prompt, most, signal);
    this.#checkRoom(text.length, most);
    // A template spells out the special tokens itself.
    const ids = await tokenizer.encode(text, isText, signal);
    // A tokenizer may know tokens that its model was never enlarged for: they would end the step of all.
    for (const id of ids) checkTokenId(id, vocabSize, 'prompt');
    return ids;
  }

  #rendered(
    prompt: Extract<Prompt, { kind: 'chat' }>,
    room: number,
    signal: AbortSignal | undefined,
  ): Promise<string> {
    const { chatRenderer } = this.#options;
    if (!chatRenderer) {
      throw new ServingError(
        'NO_CHAT_TEMPLATE',
        'This model has no chat template: its checkpoint brings none (chat_template in tokenizer_config.json, or ' +
          'chat_template.jinja) and option.chat_template is not set. Use text completion instead',
      );
    }
    this.#checkRoom(
      prompt.messages.reduce((sum, { content }) => sum + content.length, 0),
      room,
    );
    const { kind: _, messages, addGenerationPrompt = true, ...options } = prompt;
    return chatRenderer.render(messages, { addGenerationPrompt, ...options }, signal);
  }

  /** @throws ServingError PROMPT_TOO_LONG */
  #checkRoom(characters: number, room: number): void {
    const perToken = Math.max(LEAST_TOKEN_CHARACTERS, this.#options.tokenizer.facts.longestUnits);
    const limit = Math.max(LEAST_ROOM_CHARACTERS, room * perToken);
    if (characters <= limit) return;
    throw new ServingError(
      'PROMPT_TOO_LONG',
      `This model's maximum context length is ${room} tokens, of at most ${perToken} characters each, but the prompt has ` +
        `${characters} characters: shorten it to less than ${limit}`,
    );
  }

  #prepared(text: string): string {
    const { embedding } = this.#options;
    if (embedding === undefined) return text;
    const whole = embedding.prefix + text;
    return embedding.lowerCase ? whole.toLowerCase() : whole;
  }

  #cut(ids: readonly number[], cutAt: number | null): readonly number[] {
    if (cutAt === null || ids.length <= cutAt) return ids;
    const trailing = Math.min(this.#options.tokenizer.facts.trailing, cutAt);
    return [...ids.slice(0, cutAt - trailing), ...ids.slice(ids.length - trailing)];
  }
}

/** As Hugging Face's tokenizers cut ("longest first"): both are as long as they can be, the shorter one whole if it fits. */
function cutPair(
  [first, second]: readonly [readonly number[], readonly number[]],
  room: number,
): readonly [readonly number[], readonly number[]] {
  if (first.length + second.length <= room) return [first, second];
  const shorter = Math.min(first.length, second.length);
  const half = Math.floor(room / 2);
  // In an odd room the one that was longer, or else the second, has one more.
  const least = Math.min(shorter, half);
  const most = room - least;
  return first.length > second.length
    ? [first.slice(0, most), second.slice(0, least)]
    : [first.slice(0, least), second.slice(0, most)];
}
