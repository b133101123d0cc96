/**
 * A loaded handler by its shape: DJLServing's `handle(inputs)`, or TorchServe's class or function of `(data, context)`.
 *
 * In      a module; requests of one batch
 * Out     one answer a request, in order
 * Limits  answers of MAX_ANSWER_BYTES
 * Errors  Error: nothing in the module is a handler; what the handler throws; WrongAnswer: it does not answer as it must
 *
 * A function of one parameter is DJLServing's, of two TorchServe's.
 */
import type { ContentHead } from '../../requests/invoke-request.js';
import { PredictionException, type RequestData } from './base-handler.js';
import type { Context, ResponseLook } from './context.js';
import type { HandlerAnswer, HandlerRequest } from './handler-messages.js';
import { Input } from './input.js';
import { Output, type OutputEntry } from './output.js';
import { encodedChunk, encodedValue, WrongAnswer } from './value-bytes.js';

/** Where pieces of a streamed answer go. */
export interface PieceSink {
  head(index: number, head: ContentHead): void;
  chunk(index: number, bytes: Uint8Array): void;
  /** Aborts when one request's client leaves. */
  signal(index: number): AbortSignal;
}

export interface LoadedHandler {
  /** It reads `context.model`: TorchServe's shape. */
  readonly takesContext: boolean;
  initialise(): Promise<void>;
  run(requests: readonly HandlerRequest[], sink: PieceSink): Promise<HandlerAnswer[]>;
}

type DjlHandle = (inputs: Input) => Promise<unknown> | unknown;
type TorchHandle = (data: readonly RequestData[] | null, context: Context) => Promise<unknown> | unknown;
export interface TorchInstance {
  initialize?(context: Context): Promise<unknown> | unknown;
  /** A class's. It gets no null. */
  handle(data: readonly RequestData[], context: Context): Promise<unknown> | unknown;
}

/** @throws Error */
export function handlerOf(
  module: Readonly<Record<string, unknown>>,
  exported: string | null,
  context: Context,
): LoadedHandler {
  const found = exported === null ? soleHandler(module) : module[exported];
  if (typeof found !== 'function') {
    const names = Object.keys(module).join(', ') || 'nothing';
    throw new Error(
      exported === null
        ? `it exports neither a function handle nor exactly one class with a method handle; it exports ${names}`
        : `it exports no function or class ${exported}; it exports ${names}`,
    );
  }
  if (isHandlerClass(found)) return torchHandler(new (found as new () => TorchInstance)(), context);
  if (found.length >= 2) {
    const handle = found as TorchHandle;
    const initialize = async (): Promise<void> => {
      await handle(null, context);
    };
    return torchHandler({ initialize, handle: (data, own) => handle(data, own) }, context);
  }
  return djlHandler(found as DjlHandle);
}

function soleHandler(module: Readonly<Record<string, unknown>>): unknown {
  if (typeof module.handle === 'function') return module.handle;
  if (typeof module.default === 'function') return module.default;
  const classes = Object.values(module).filter(isHandlerClass);
  return classes.length === 1 ? classes[0] : null;
}

const isHandlerClass = (value: unknown): boolean =>
  typeof value === 'function' &&
  /^class\b/.test(Function.prototype.toString.call(value)) &&
  typeof (value.prototype as { handle?: unknown }).handle === 'function';

function djlHandler(handle: DjlHandle): LoadedHandler {
  return {
    takesContext: false,
    initialise: async () => {
      await handle(new Input([]));
    },
    run: async (requests, sink) => {
      const output = await handle(new Input(requests, sink.signal(0)));
      if (output === null || output === undefined) return requests.map(() => empty());
      if (!(output instanceof Output)) throw new WrongAnswer('handle must return an Output, or null');
      return output.stream === null ? wholes(output, requests.length) : streamed(output, requests, sink);
    },
  };
}

const empty = (): HandlerAnswer => ({
  kind: 'whole',
  head: { status: 204, contentType: 'text/plain', headers: {}, isStream: false },
  bytes: new Uint8Array(0),
});

function wholes({ code, entries, properties }: Output, count: number): HandlerAnswer[] {
  const groups: OutputEntry[][] = Array.from({ length: count }, () => []);
  const inOrder = count > 1 && entries.length === count && entries.every((one) => one.batchIndex === null);
  entries.forEach((entry, at) => {
    const group = groups[inOrder ? at : (entry.batchIndex ?? (count === 1 ? 0 : -1))];
    if (group === undefined) throw mismatched(entries.length, count);
    group.push(entry);
  });
  return groups.map((group) => {
    if (group.length === 0) throw mismatched(groups.filter((one) => one.length > 0).length, count);
    const byKey = () => Object.fromEntries(group.map(({ key, value }) => [key, value]));
    const value = group.length === 1 ? group[0]!.value : byKey();
    const { bytes, contentType } = encodedValue(value);
    return { kind: 'whole', head: headOf(code, contentType, properties), bytes };
  });
}

async function streamed(
  { code, properties, stream }: Output,
  requests: readonly HandlerRequest[],
  sink: PieceSink,
): Promise<HandlerAnswer[]> {
  if (requests.length > 1)
    throw new WrongAnswer('a batch of several requests is answered whole, not streamed');
  const signal = sink.signal(0);
  let begun = false;
  for await (const value of stream!) {
    const { bytes, contentType } = encodedChunk(value);
    if (!begun) sink.head(0, { ...headOf(code, contentType, properties), isStream: true });
    begun = true;
    if (signal.aborted) break;
    sink.chunk(0, bytes);
  }
  return begun ? [{ kind: 'streamed' }] : [empty()];
}

function headOf(
  status: number,
  contentType: string,
  properties: Readonly<Record<string, string>>,
): ContentHead {
  const { 'content-type': given, ...headers } = properties;
  return { status, contentType: given ?? contentType, headers, isStream: false };
}

export function torchHandler(instance: TorchInstance, context: Context): LoadedHandler {
  return {
    takesContext: true,
    initialise: async () => {
      await instance.initialize?.(context);
    },
    run: async (requests, sink) => {
      const looks = requests.map((): ResponseLook => ({ status: 200, contentType: null, headers: {} }));
      const begun = new Set<number>();
      const chunk = (index: number, value: unknown): void => {
        const { bytes, contentType } = encodedChunk(value);
        if (!begun.has(index))
          sink.head(index, { ...lookedHead(looks[index]!, contentType), isStream: true });
        begun.add(index);
        sink.chunk(index, bytes);
      };
      context.looks = looks;
      context.requestIds = requests.map(({ requestId }) => requestId);
      context.requestHeaders = requests.map(({ properties }) => properties);
      context.sendChunk = chunk;
      let answers: unknown;
      try {
        answers = await instance.handle(requests.map(dataOf), context);
      } catch (error) {
        if (!(error instanceof PredictionException)) throw error;
        // What has begun has its status already.
        return looks.map((_, index) =>
          begun.has(index) ? { kind: 'failed', message: error.message } : refusal(error, requests.length),
        );
      }
      if (!Array.isArray(answers)) {
        throw new WrongAnswer('Invalid model predict output: a list with one answer a request is wanted');
      }
      if (answers.length !== requests.length) throw mismatched(answers.length, requests.length);
      return answers.map((answer: unknown, index): HandlerAnswer => {
        if (begun.has(index)) {
          if (answer !== null && answer !== undefined && answer !== '') chunk(index, answer);
          return { kind: 'streamed' };
        }
        const { bytes, contentType } = encodedValue(answer);
        return { kind: 'whole', head: lookedHead(looks[index]!, contentType), bytes };
      });
    },
  };
}

const lookedHead = ({ contentType, headers, status }: ResponseLook, otherwise: string): ContentHead => ({
  status,
  contentType: contentType ?? otherwise,
  headers,
  isStream: false,
});

/** JSON is parsed and text is text; the rest is bytes. A body that is no form is `body`. */
function dataOf({ content }: HandlerRequest): RequestData {
  return Object.fromEntries(
    content.map(({ bytes, contentType, key }) => {
      const plain = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      const isJson = contentType === 'application/json' || (contentType?.endsWith('+json') ?? false);
      const value = isJson
        ? parsedOrText(plain.toString('utf8'))
        : contentType?.startsWith('text/')
          ? plain.toString('utf8')
          : plain;
      return [key === '' ? 'body' : key, value];
    }),
  );
}

function parsedOrText(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

function refusal({ message, statusCode }: PredictionException, requests: number): HandlerAnswer {
  const { bytes, contentType } = encodedValue({ code: statusCode, type: 'PredictionException', message });
  const head = { status: statusCode, contentType, headers: {}, isStream: false };
  return { kind: 'whole', head, bytes, ofBatch: requests > 1 };
}

const mismatched = (given: number, wanted: number): WrongAnswer =>
  new WrongAnswer(`number of batch response mismatched: ${given} answers to ${wanted} requests`);
