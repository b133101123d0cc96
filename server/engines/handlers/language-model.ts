/**
 * The language model that a handler is bound to, as its code sees it: `pipeline()` of transformers, in this language's spelling.
 *
 * In      a text (or texts), LMI's parameters: do_sample, temperature, top_k, top_p, max_new_tokens, min_new_tokens, stop, seed, …
 * Out     `[{ generated_text }]`, prompt and answer as one text unless return_full_text is false; or pieces as they come
 * Errors  ModelError: what the model refuses (its message, its code), or that the handler has none
 * Source  transformers' text-generation pipeline; LMI's names of parameters
 */
import type { FromHandler, ToHandler } from './handler-messages.js';

export type GenerationParameters = Readonly<Record<string, unknown>> & {
  readonly do_sample?: boolean;
  readonly max_new_tokens?: number;
  readonly min_tokens?: number;
  readonly return_full_text?: boolean;
};

export interface Generated {
  /** Without the prompt. */
  text: string;
  promptTokens: number;
  newTokens: number;
  reason: 'end-id' | 'length' | 'stop-string';
}

/** What the model could not do; `code` is of the server's table. */
export class ModelError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.name = 'ModelError';
    this.code = code;
  }
}

interface Listener {
  piece(text: string): void;
  end(generated: Generated): void;
  fail(error: Error): void;
}

interface Options {
  /** The text is not wanted any more. */
  signal?: AbortSignal;
}

export class LanguageModel {
  readonly #send: (message: FromHandler) => void;
  readonly #listeners = new Map<number, Listener>();
  #nextAsk = 1;

  constructor(send: (message: FromHandler) => void) {
    this.#send = send;
  }

  generate(text: string, parameters: GenerationParameters = {}, options: Options = {}): Promise<Generated> {
    return new Promise((resolve, reject) => {
      this.#ask(text, parameters, options, { piece: () => {}, end: resolve, fail: reject });
    });
  }

  /** Pieces of text as they are made. */
  async *stream(
    text: string,
    parameters: GenerationParameters = {},
    { signal }: Options = {},
  ): AsyncGenerator<string, Generated> {
    const pieces: string[] = [];
    const leaving = new AbortController();
    let ending: Generated | Error | null = null;
    let wake = (): void => {};
    const come = (then: () => void): void => {
      then();
      wake();
    };
    this.#ask(
      text,
      parameters,
      { signal: signal ? AbortSignal.any([signal, leaving.signal]) : leaving.signal },
      {
        piece: (piece) => come(() => pieces.push(piece)),
        end: (generated) =>
          come(() => {
            ending = generated;
          }),
        fail: (error) =>
          come(() => {
            ending = error;
          }),
      },
    );
    try {
      for (;;) {
        const piece = pieces.shift();
        if (piece !== undefined) {
          yield piece;
          continue;
        }
        const ended = ending as Generated | Error | null;
        if (ended instanceof Error) throw ended;
        if (ended !== null) return ended;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    } finally {
      if (ending === null) leaving.abort();
    }
  }

  /** The process's channel's. */
  told({ ask, end, failure, piece }: Extract<ToHandler, { kind: 'told' }>): void {
    const listener = this.#listeners.get(ask);
    if (listener === undefined) return;
    if (piece !== undefined) listener.piece(piece);
    if (end === undefined && failure === undefined) return;
    this.#listeners.delete(ask);
    if (end !== undefined) listener.end(end);
    else listener.fail(new ModelError(failure!.code, failure!.message));
  }

  #ask(text: string, parameters: GenerationParameters, { signal }: Options, listener: Listener): void {
    const ask = this.#nextAsk++;
    this.#listeners.set(ask, listener);
    const { return_full_text: _, ...asked } = parameters;
    this.#send({ kind: 'ask', ask, text, parameters: asked });
    const onAbort = (): void => this.#send({ kind: 'unask', ask });
    if (signal?.aborted) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
  }
}

export interface PipelineAnswer {
  generated_text: string;
}

/** Asks the model as transformers' pipeline does. */
export interface Predictor {
  (text: string, parameters?: GenerationParameters, options?: Options): Promise<PipelineAnswer[]>;
  (
    texts: readonly string[],
    parameters?: GenerationParameters,
    options?: Options,
  ): Promise<PipelineAnswer[][]>;
  readonly model: LanguageModel;
}

/** The process's: set before the handler's code is loaded. */
let bound: LanguageModel | null = null;

export function bindModel(model: LanguageModel | null): void {
  bound = model;
}

export const boundModel = (): LanguageModel | null => bound;

/** The predictor of the handler's own language model (option.model_id, or the checkpoint in its folder). @throws ModelError */
export async function pipeline(task: 'text-generation' = 'text-generation'): Promise<Predictor> {
  if (task !== 'text-generation')
    throw new ModelError('BAD_REQUEST', `there is no pipeline ${String(task)}, only text-generation`);
  const model = bound;
  if (model === null) {
    throw new ModelError(
      'BAD_REQUEST',
      'this handler has no language model: option.model_id of its serving.properties names one',
    );
  }
  const ask = async (
    text: string,
    parameters: GenerationParameters = {},
    options: Options = {},
  ): Promise<PipelineAnswer[]> => {
    const { text: made } = await model.generate(text, parameters, options);
    return [{ generated_text: parameters.return_full_text === false ? made : text + made }];
  };
  const predictor = (
    given: string | readonly string[],
    parameters?: GenerationParameters,
    options?: Options,
  ): Promise<PipelineAnswer[] | PipelineAnswer[][]> =>
    typeof given === 'string'
      ? ask(given, parameters, options)
      : Promise.all(given.map((text) => ask(text, parameters, options)));
  return Object.assign(predictor, { model }) as Predictor;
}
