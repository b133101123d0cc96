/**
 * TorchServe's BaseHandler: `handle` is preprocess, inference, postprocess; a handler overrides the one it needs.
 *
 * In      a folder with one .onnx file, or with none (then `inference` is the handler's own); lists of requests' data
 * Out     a list of answers, one a request
 * Errors  whatever a step throws fails its batch
 */
import type { InferenceSession } from 'onnxruntime-node';
import { EXPLAINED_HEADER } from '../../requests/explained.js';
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

type Kind = 'answer' | 'explain' | 'describe';

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

  /**
   * Why it answers as it does, one explanation a request; a handler that has none is asked by the server again and again instead.
   *
   * @param data what `preprocess` has made of `raw`
   */
  explainHandle?(data: unknown, raw: readonly RequestData[]): Promise<unknown>;

  /** Requests of all kinds may have come together. */
  async handle(data: readonly RequestData[], context: Context): Promise<unknown> {
    const kinds = data.map((_, at): Kind => {
      if (context.getRequestHeader(at, 'describe') === 'True') return 'describe';
      const explains = this.explainHandle !== undefined && context.getRequestHeader(at, 'explain') === 'True';
      return explains ? 'explain' : 'answer';
    });
    if (!kinds.some((kind) => kind !== 'answer')) return this.#answered(data, context);
    const of = (kind: Kind) => data.filter((_, at) => kinds[at] === kind);
    const answers: Record<Kind, unknown[]> = { answer: [], explain: [], describe: [] };
    if (kinds.includes('describe')) {
      const told = (await this.describeHandle()) ?? '';
      answers.describe = of('describe').map(() => told);
    }
    if (kinds.includes('explain')) {
      const raw = of('explain');
      answers.explain = [...((await this.explainHandle!(await this.preprocess(raw), raw)) as unknown[])];
    }
    if (kinds.includes('answer'))
      answers.answer = [...((await this.#answered(of('answer'), context)) as unknown[])];
    return kinds.map((kind, at) => {
      if (kind === 'explain') context.setResponseHeader(at, EXPLAINED_HEADER, 'True');
      return answers[kind].shift();
    });
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
