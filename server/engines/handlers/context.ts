/**
 * What a handler of TorchServe's shape is told besides its data: the model, each request's headers, and how each answer is to look.
 *
 * Source  TorchServe's Context, in this language's spelling
 */
import type { InferenceSession } from 'onnxruntime-node';
import type { HandlerMetrics } from './handler-metrics.js';
import type { LanguageModel } from './language-model.js';

export interface SystemProperties {
  model_dir: string;
  /** No device but the CPU. */
  gpu_id: null;
  batch_size: number;
  /** Cores that the handler may use. */
  threads: number;
  server_name: 'Shardserve';
}

export interface ResponseLook {
  status: number;
  contentType: string | null;
  headers: Record<string, string>;
}

interface ContextOptions {
  modelName: string;
  modelVersion: string | null;
  systemProperties: SystemProperties;
  /** MAR-INF/MANIFEST.json; null: there is none. */
  manifest: unknown;
  /** model-config.yaml; empty: there is none. */
  modelYamlConfig: Readonly<Record<string, unknown>>;
  metrics: HandlerMetrics;
  /** What serving.properties says. */
  properties: Readonly<Record<string, string>>;
}

export class Context {
  readonly modelName: string;
  readonly modelVersion: string | null;
  readonly systemProperties: SystemProperties;
  readonly manifest: unknown;
  readonly modelYamlConfig: Readonly<Record<string, unknown>>;
  readonly metrics: HandlerMetrics;
  readonly properties: Readonly<Record<string, string>>;
  /** What answers: a language model (option.model_id, or the folder's checkpoint), or a session of the folder's .onnx file; null: neither. */
  model: LanguageModel | InferenceSession | null = null;
  /** Those of the batch that is being handled. */
  requestIds: readonly string[] = [];
  requestHeaders: readonly Readonly<Record<string, string>>[] = [];
  looks: ResponseLook[] = [];
  /** Sends a chunk of one request's answer. */
  sendChunk: (index: number, value: unknown) => void = () => {};

  constructor(options: ContextOptions) {
    this.modelName = options.modelName;
    this.modelVersion = options.modelVersion;
    this.systemProperties = options.systemProperties;
    this.manifest = options.manifest;
    this.modelYamlConfig = options.modelYamlConfig;
    this.metrics = options.metrics;
    this.properties = options.properties;
  }

  getRequestId(index = 0): string | undefined {
    return this.requestIds[index];
  }

  getRequestHeader(index: number, key: string): string | undefined {
    return this.requestHeaders[index]?.[key.toLowerCase()];
  }

  getAllRequestHeader(index: number): Readonly<Record<string, string>> {
    return this.requestHeaders[index] ?? {};
  }

  setResponseContentType(index: number, value: string): void {
    this.#look(index).contentType = value;
  }

  setResponseHeader(index: number, key: string, value: string): void {
    this.#look(index).headers[key.toLowerCase()] = value;
  }

  setResponseStatus(code: number, _phrase = '', index = 0): void {
    this.#look(index).status = code;
  }

  setAllResponseStatus(code: number, phrase = ''): void {
    for (const index of this.looks.keys()) this.setResponseStatus(code, phrase, index);
  }

  #look(index: number): ResponseLook {
    const look = this.looks[index];
    if (look === undefined) throw new RangeError(`The batch has ${this.looks.length} requests, no ${index}`);
    return look;
  }
}

/** A piece of each request's answer, before the handler returns the last of them. */
export function sendIntermediatePredictResponse(
  pieces: readonly unknown[],
  requestIds: readonly string[],
  _message: string,
  _code: number,
  context: Context,
): void {
  requestIds.forEach((id, at) => {
    const index = context.requestIds.indexOf(id);
    if (index >= 0 && at < pieces.length) context.sendChunk(index, pieces[at]);
  });
}
