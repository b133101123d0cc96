/**
 * TorchServe's BaseHandler: `handle` is preprocess, inference, postprocess; a handler overrides the one it needs.
 *
 * In      a folder with one .onnx file, or with none (then `inference` is the handler's own); lists of requests' data
 * Out     a list of answers, one a request
 * Errors  whatever a step throws fails its batch
 */
import type { InferenceSession } from 'onnxruntime-node';
import type { Context } from './context.js';
import { LanguageModel } from './language-model.js';

/** What one request sent: `body` (or `data`) of a plain body, the fields of a form by name. */
export type RequestData = Readonly<Record<string, unknown>>;

/** An error with a status of its own: TorchServe's PredictionException. */
export class PredictionException extends Error {
  readonly statusCode: number;

  constructor(message: string, statusCode = 500) {
    super(message);
    this.name = 'PredictionException';
    this.statusCode = statusCode;
  }
}

export class BaseHandler {
  context!: Context;
  initialized = false;
  /** Runs the folder's .onnx file; null: there is none. */
  session: InferenceSession | null = null;

  async initialize(context: Context): Promise<void> {
    this.context = context;
    const { model } = context;
    if (model !== null && !(model instanceof LanguageModel)) this.session = model;
    this.initialized = true;
  }

  /** @returns what `inference` takes */
  async preprocess(data: readonly RequestData[]): Promise<unknown> {
    return data.map((one) => one.data ?? one.body);
  }

  async inference(data: unknown): Promise<unknown> {
    if (this.session === null) return data;
    return this.session.run(data as InferenceSession.FeedsType);
  }

  /** @returns one answer a request */
  async postprocess(data: unknown): Promise<unknown> {
    return data;
  }

  /** What a description of the model says besides (customized=true); undefined: nothing. */
  async describeHandle(): Promise<unknown> {
    return undefined;
  }

  async handle(data: readonly RequestData[], context: Context): Promise<unknown> {
    const isAsked = data.map((_, at) => context.getRequestHeader(at, 'describe') === 'True');
    if (isAsked.includes(true)) return this.#described(data, context, isAsked);
    return this.#answered(data, context);
  }

  /** Requests of both kinds may have come together. */
  async #described(
    data: readonly RequestData[],
    context: Context,
    isAsked: readonly boolean[],
  ): Promise<unknown[]> {
    const told = (await this.describeHandle()) ?? '';
    const others = data.filter((_, at) => !isAsked[at]);
    const answers = others.length === 0 ? [] : ((await this.#answered(others, context)) as unknown[]);
    return isAsked.map((asked) => (asked ? told : answers.shift()));
  }

  async #answered(data: readonly RequestData[], context: Context): Promise<unknown> {
    const startedMs = performance.now();
    const given = await this.preprocess(data);
    const answers = await this.inference(given);
    const after = await this.postprocess(answers);
    context.metrics.addTime('HandlerTime', Math.round((performance.now() - startedMs) * 100) / 100);
    return after;
  }
}
