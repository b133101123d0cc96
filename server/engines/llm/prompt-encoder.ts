/**
 * Prompt → token ids: text, ready ids, or a chat through the checkpoint's template.
 *
 * In      Prompt of a request; of a text to embed, where it is cut
 * Out     token ids
 * Cut     the end of the text goes, the special tokens that the tokenizer puts behind it stay, as in Hugging Face's tokenizers
 * Limits  text longer than THREAD_CHARACTERS is tokenised in a worker thread, which starts with the first of them
 * Errors  BAD_REQUEST: an id outside the vocabulary; NO_CHAT_TEMPLATE; those of chat-renderer.ts
 */
import { Worker } from 'node:worker_threads';
import { ServingError } from '../../../proto/errors.js';
import type { ModelInfo } from '../../../proto/manifest.js';
import type { Prompt } from '../../requests/generate-request.js';
import type { Tokenizer } from '../../text/tokenizer.js';
import type { ChatRenderer } from './chat-renderer.js';
import { checkTokenId } from './sampling.js';
import type { TokeniseReply, TokeniseRequest } from './tokenise-thread.js';

/** Design D9: 8 KB. */
const THREAD_CHARACTERS = 8192;

export interface PromptEncoderOptions {
  modelFolder: string;
  tokenizer: Pick<Tokenizer, 'encode'>;
  /** null: the checkpoint has no template. */
  chatRenderer: Pick<ChatRenderer, 'render' | 'close'> | null;
  vocabSize: number;
  /** Of an embedding model: what is done to a text before. */
  embedding?: Pick<NonNullable<ModelInfo['embedding']>, 'lowerCase' | 'prefix'> | undefined;
}

export class PromptEncoder {
  readonly #options: PromptEncoderOptions;
  #thread: Worker | null = null;
  #nextId = 1;
  #trailing: number | null = null;
  readonly #waiting = new Map<number, { resolve(ids: number[]): void; reject(error: unknown): void }>();

  constructor(options: PromptEncoderOptions) {
    this.#options = options;
  }

  /**
   * @param cutAt tokens that are left of a longer prompt; null: all
   * @throws ServingError
   */
  async encode(prompt: Prompt, cutAt: number | null = null): Promise<readonly number[]> {
    const { chatRenderer, vocabSize } = this.#options;
    switch (prompt.kind) {
      case 'ids':
        for (const id of prompt.ids) checkTokenId(id, vocabSize, 'prompt');
        return cutAt === null ? prompt.ids : prompt.ids.slice(0, cutAt);
      case 'text':
        return this.#cut(await this.#encodeText(this.#prepared(prompt.text), true), cutAt);
      case 'chat': {
        if (!chatRenderer) {
          throw new ServingError(
            'NO_CHAT_TEMPLATE',
            'This model has no chat template: its checkpoint brings none (chat_template in tokenizer_config.json, or ' +
              'chat_template.jinja) and option.chat_template is not set. Use text completion instead',
          );
        }
        const tools = prompt.tools ? { tools: prompt.tools } : {};
        // The template spells out the special tokens itself.
        const text = await chatRenderer.render(prompt.messages, { addGenerationPrompt: true, ...tools });
        return this.#encodeText(text, false);
      }
    }
  }

  #prepared(text: string): string {
    const { embedding } = this.#options;
    if (embedding === undefined) return text;
    const whole = embedding.prefix + text;
    return embedding.lowerCase ? whole.toLowerCase() : whole;
  }

  #cut(ids: number[], cutAt: number | null): readonly number[] {
    if (cutAt === null || ids.length <= cutAt) return ids;
    this.#trailing ??= this.#countTrailing();
    const kept = Math.max(0, cutAt - this.#trailing);
    return [...ids.slice(0, kept), ...ids.slice(ids.length - Math.min(this.#trailing, cutAt))];
  }

  /** Special tokens that the tokenizer puts behind a text. */
  #countTrailing(): number {
    const { tokenizer } = this.#options;
    const plain = tokenizer.encode('a', { addSpecialTokens: false });
    const whole = tokenizer.encode('a', { addSpecialTokens: true });
    const first = whole.findIndex((_, at) => plain.every((id, index) => whole[at + index] === id));
    return first < 0 ? 0 : whole.length - first - plain.length;
  }

  async close(): Promise<void> {
    await Promise.all([this.#thread?.terminate(), this.#options.chatRenderer?.close()]);
  }

  async #encodeText(text: string, addSpecialTokens: boolean): Promise<number[]> {
    const ids = await this.#tokenise(text, addSpecialTokens);
    // A tokenizer may know tokens that its model was never enlarged for: they would end the step of all.
    for (const id of ids) checkTokenId(id, this.#options.vocabSize, 'prompt');
    return ids;
  }

  async #tokenise(text: string, addSpecialTokens: boolean): Promise<number[]> {
    if (text.length <= THREAD_CHARACTERS) return this.#options.tokenizer.encode(text, { addSpecialTokens });
    this.#thread ??= this.#startThread();
    const thread = this.#thread;
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      thread.postMessage({ id, text, addSpecialTokens } satisfies TokeniseRequest);
    });
  }

  #startThread(): Worker {
    const thread = new Worker(new URL('./tokenise-thread.js', import.meta.url), {
      workerData: this.#options.modelFolder,
    });
    // A thread that waits for work does not keep the server alive.
    thread.unref();
    thread.on('message', (reply: TokeniseReply) => {
      const waiting = this.#waiting.get(reply.id);
      this.#waiting.delete(reply.id);
      if ('error' in reply) waiting?.reject(new Error(reply.error));
      else waiting?.resolve(Array.from(reply.ids));
    });
    const lose = (error: unknown): void => {
      this.#thread = null;
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    };
    thread.once('error', lose);
    thread.once('exit', (code) => lose(new Error(`the tokeniser thread exited with code ${code}`)));
    return thread;
  }
}
