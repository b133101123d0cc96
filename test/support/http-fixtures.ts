/**
 * A InferenceService without a model, and a server around it: tests push tokens by hand or let it answer by itself.
 *
 * Answers are made of the prompt's words, so that every request has its own text: token i is " wi".
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import pino from 'pino';
import { ServingError } from '../../proto/errors.js';
import type { ServerConfig } from '../../server/config/config.js';
import { defaultsOf } from '../../server/config/key-table.js';
import type { Dialect } from '../../server/http/dialect.js';
import { ALL_DIALECTS } from '../../server/http/dialects/all-dialects.js';
import type { HttpDeps } from '../../server/http/http-context.js';
import { createHttpServer, type HttpServer } from '../../server/http/http-server.js';
import { FolderLease } from '../../server/machine/folder-lease.js';
import type { GenerateRequest } from '../../server/requests/generate-request.js';
import type { FinishReason, GenerationEvent } from '../../server/requests/job-events.js';
import type { ModelTokens } from '../../server/requests/model-tokens.js';
import type {
  Accepted,
  EventsOf,
  Generation,
  InferenceService,
  JobRequest,
  JobTimes,
  ModelStatus,
} from '../../server/requests/service.js';
import { managementOf } from './http-fake-management.js';

/** One accepted request, and the hand that feeds it. */
export class Submitted implements AsyncIterable<GenerationEvent> {
  readonly request: GenerateRequest;
  readonly signal: AbortSignal;
  /** The reader left before the end. */
  abandoned = false;
  readonly #events: (GenerationEvent | ServingError)[] = [];
  #wake: (() => void) | null = null;
  #text = '';
  #newTokens = 0;

  constructor(request: GenerateRequest, signal: AbortSignal) {
    this.request = request;
    this.signal = signal;
    signal.addEventListener('abort', () => this.fail(new ServingError('CANCELLED', 'The client went away')));
  }

  get promptTokens(): number {
    const { prompt } = this.request;
    if (prompt.kind === 'ids') return prompt.ids.length;
    const text =
      prompt.kind === 'text' ? prompt.text : prompt.messages.map(({ content }) => content).join(' ');
    return text.split(' ').length;
  }

  /** Tokens of the prompt, as asked for: the first has no probability. */
  tellPrompt(texts: readonly string[]): void {
    texts.forEach((text, index) => {
      const logprob = index === 0 ? Number.NaN : -index;
      const own = { text, bytes: [...Buffer.from(text)] };
      const count = index === 0 ? 0 : (this.request.promptLogprobs ?? 0);
      const topLogprobs = Array.from({ length: count }, (_, rank) => ({
        tokenId: 10 + index + rank,
        text: rank === 0 ? text : `alt${rank}`,
        logprob: logprob - rank,
      }));
      this.#put({ kind: 'prompt-token', tokenId: 10 + index, own, logprob, topLogprobs });
    });
  }

  token(text: string, special = false): void {
    this.#text += text;
    this.#newTokens += 1;
    const { logprob, topLogprobs } = this.request;
    const tokenId = 100 + this.#newTokens;
    this.#put({
      kind: 'token',
      tokenId,
      text,
      special,
      logprob: logprob ? -0.25 * this.#newTokens : Number.NaN,
      topLogprobs: Array.from({ length: topLogprobs }, (_, rank) => ({
        tokenId: tokenId + rank,
        text: rank === 0 ? text : `alt${rank}`,
        logprob: -0.25 * this.#newTokens - rank,
      })),
    });
  }

  finish(reason: FinishReason, heldBack = '', stop?: string | number): void {
    this.#text += heldBack;
    this.#put({
      kind: 'finish',
      reason,
      text: heldBack,
      generatedText: this.#text,
      promptTokens: this.promptTokens,
      newTokens: this.#newTokens,
      seed: this.request.sampling.seed ?? 7,
      ...(stop !== undefined && { stop }),
    });
  }

  fail(error: ServingError): void {
    this.#put(error);
  }

  [Symbol.asyncIterator](): AsyncIterator<GenerationEvent> {
    return {
      next: async () => {
        for (;;) {
          const event = this.#events.shift();
          if (event instanceof ServingError) throw event;
          if (event !== undefined) return { done: false, value: event };
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
        }
      },
      return: async () => {
        this.abandoned = true;
        return { done: true, value: undefined };
      },
    };
  }

  #put(event: GenerationEvent | ServingError): void {
    this.#events.push(event);
    this.#wake?.();
    this.#wake = null;
  }
}

export class FakeService implements InferenceService {
  /** Requests in the order in which they came. */
  readonly submitted: Submitted[] = [];
  /** Answers at once with up to `words` tokens; null: the test pushes. */
  words: number | null = 3;
  /** Thrown by the next submit. */
  refuseWith: ServingError | null = null;
  statuses: ModelStatus[] = [model('mlp')];
  /** What every accepted request has. */
  times: JobTimes | null = null;
  /** What a request without a version gets; null: as if nobody chose. */
  choice: ((model: string, session: string | null) => string | null) | null = null;
  /** null: as of a model that knows none. */
  knownTokens: ModelTokens | null = null;
  readonly #arrived: (() => void)[] = [];

  async submit<R extends JobRequest>(asked: R, signal: AbortSignal): Promise<Accepted<EventsOf<R>>> {
    assert(asked.kind === 'generate', 'this service makes text only');
    const request: GenerateRequest = asked;
    if (this.refuseWith !== null) throw this.refuseWith;
    const job = new Submitted(request, signal);
    this.submitted.push(job);
    for (const wake of this.#arrived.splice(0)) wake();
    if (this.words !== null && request.promptLogprobs !== undefined) job.tellPrompt(['once', ' upon', ' a']);
    if (this.words !== null) {
      const count = Math.min(this.words, request.maxNewTokens ?? request.usualNewTokens ?? this.words);
      for (let index = 1; index <= count; index += 1) job.token(` w${index}`);
      job.finish(count < this.words ? 'length' : 'end-id');
    }
    const times = this.times && { times: this.times };
    const generation: Generation = { promptTokens: job.promptTokens, events: job, ...times };
    return generation as Accepted<EventsOf<R>>;
  }

  chooseVersion(name: string, session: string | null): string | null {
    return this.choice?.(name, session) ?? null;
  }

  tokens(name: string): ModelTokens {
    if (this.knownTokens === null) throw new ServingError('BAD_REQUEST', `Model ${name} knows no tokens`);
    return this.knownTokens;
  }

  models(): readonly ModelStatus[] {
    return this.statuses;
  }

  /** The n-th request, when it is there. */
  async request(index: number): Promise<Submitted> {
    while (this.submitted.length <= index) {
      await new Promise<void>((resolve) => {
        this.#arrived.push(resolve);
      });
    }
    return this.submitted[index]!;
  }
}

export function model(name: string, fields: Partial<ModelStatus> = {}): ModelStatus {
  return {
    name,
    version: null,
    state: 'READY',
    healthy: true,
    loadedAtStartup: true,
    signature: null,
    registeredAtMs: 1_700_000_000_500,
    contextLength: 512,
    task: 'text-generation',
    outputFormatter: null,
    ...fields,
  };
}

export const SERVER_CONFIG: ServerConfig = {
  ...(defaultsOf('server') as unknown as ServerConfig),
  inferenceAddress: { kind: 'tcp', host: '127.0.0.1', port: 0, path: '' },
  managementAddress: { kind: 'tcp', host: '127.0.0.1', port: 0, path: '' },
  modelStore: '/models',
  loadModels: 'NONE',
  maxRequestBytes: 64 * 1024,
  maxConnections: 8192,
  chunkedReadTimeoutSeconds: 60,
};

export interface TestServer {
  server: HttpServer;
  service: FakeService;
  url: string;
  /** Parsed log lines. */
  logs: Record<string, unknown>[];
  /** Resolves with the first log line that fits, also one that is there already. */
  logged(fits: (line: Record<string, unknown>) => boolean): Promise<Record<string, unknown>>;
}

/** @param more further parts of the server, such as its management */
export async function startServer(
  config: Partial<ServerConfig> = {},
  singleStartupModel: string | null = 'mlp',
  more: Partial<HttpDeps> = {},
  dialects: readonly Dialect[] = ALL_DIALECTS,
): Promise<TestServer> {
  const service = new FakeService();
  const logs: Record<string, unknown>[] = [];
  const watchers = new Set<() => void>();
  const logger = pino(
    { level: 'debug' },
    {
      write: (text: string) => {
        logs.push(JSON.parse(text) as Record<string, unknown>);
        for (const watch of watchers) watch();
      },
    },
  );
  const deps: HttpDeps = {
    config: { ...SERVER_CONFIG, ...config },
    service,
    management: managementOf(service),
    logger,
    singleStartupModel: () => singleStartupModel,
    ownFolder: (folder, key) => new FolderLease(folder, key),
    ...more,
  };
  const server = await createHttpServer(deps, dialects);
  const url = await server.listen();
  const logged = (fits: (line: Record<string, unknown>) => boolean) =>
    new Promise<Record<string, unknown>>((resolve) => {
      const look = () => {
        const found = logs.find(fits);
        if (found === undefined) return;
        watchers.delete(look);
        resolve(found);
      };
      watchers.add(look);
      look();
    });
  return { server, service, url, logs, logged };
}

/** A raw HTTP exchange whose body is read chunk by chunk as it comes. */
export class RawExchange {
  readonly response: IncomingMessage;
  readonly #client: ReturnType<typeof httpRequest>;
  readonly #reader: AsyncIterator<Buffer>;

  private constructor(client: ReturnType<typeof httpRequest>, response: IncomingMessage) {
    this.#client = client;
    this.response = response;
    this.#reader = response[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  static async post(url: string, body: unknown, headers: Record<string, string> = {}): Promise<RawExchange> {
    const client = httpRequest(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
    });
    client.on('error', () => undefined);
    client.end(JSON.stringify(body));
    const [response] = (await once(client, 'response')) as [IncomingMessage];
    return new RawExchange(client, response);
  }

  /** The next piece as the socket gave it; null at the end. */
  async chunk(): Promise<string | null> {
    const { value, done } = await this.#reader.next();
    return done ? null : value.toString('utf8');
  }

  async rest(): Promise<string> {
    let text = '';
    for (let piece = await this.chunk(); piece !== null; piece = await this.chunk()) text += piece;
    return text;
  }

  /** The client goes away. */
  destroy(): void {
    this.#client.destroy();
  }
}

/** Resolves when a signal is aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}

export async function postJson(url: string, body: unknown, headers: Record<string, string> = {}) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text };
}
