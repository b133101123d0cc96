/**
 * DJLServing's predictions: text as LMI's handler takes it, tensors as JSON, or a body as it is.
 *
 * In      the server's URL, the model's name; stream: a line a token
 * Out     Answer; tokens out are those that `details` counts, else the lines of a stream
 * Source  DJLServing 0.36: its errors; LMI's schemas
 */
import {
  type Answer,
  type Dialect,
  failed,
  type Payload,
  type TensorPayload,
  type TextPayload,
} from './dialect.js';
import { type Exchange, HttpConnections, refusalOf } from './http-exchange.js';

export interface HttpDialectOptions {
  url: string;
  model: string;
  stream: boolean;
  /** Besides the body's own: keys, versions. */
  headers: Record<string, string>;
  /** Laid over the parameters of a text request. */
  parameters: Record<string, unknown>;
  /** Another path than the dialect's own. */
  path?: string;
}

export class DjlDialect implements Dialect {
  readonly #options: HttpDialectOptions;
  readonly #connections = new HttpConnections();

  constructor(options: HttpDialectOptions) {
    this.#options = options;
  }

  close(): void {
    this.#connections.close();
  }

  async ask(payload: Payload, signal: AbortSignal): Promise<Answer> {
    const { headers, model, path, stream, url } = this.#options;
    const target = `${url}${path ?? `/predictions/${encodeURIComponent(model)}`}`;
    const call = { url: target, headers: { 'content-type': 'application/json', ...headers } };
    if (payload.kind === 'bytes') {
      const typed = { ...call.headers, 'content-type': payload.contentType };
      return whole(await this.#connections.exchange({ ...call, headers: typed, body: payload.body }, signal));
    }
    if (payload.kind === 'tensors') {
      return whole(await this.#connections.exchange({ ...call, body: tensorsAsJson(payload) }, signal));
    }
    const body = textBody(payload, stream, this.#options.parameters);
    if (!stream) return textAnswer(await this.#connections.exchange({ ...call, body }, signal));
    const timesMs: number[] = [];
    let last = '';
    const exchange = await this.#connections.exchange(
      {
        ...call,
        body,
        onLine: (line, timeMs) => {
          timesMs.push(timeMs);
          last = line;
        },
      },
      signal,
    );
    return streamAnswer(exchange, timesMs, last);
  }
}

function textBody(
  { maxNewTokens, prompt }: TextPayload,
  stream: boolean,
  more: Record<string, unknown>,
): string {
  return JSON.stringify({
    inputs: prompt,
    // An answer of the length that was asked for, whatever the model would say.
    parameters: { max_new_tokens: maxNewTokens, ignore_eos_token: true, details: true, ...more },
    ...(stream ? { stream: true } : {}),
  });
}

export function tensorsAsJson({ tensors }: TensorPayload): string {
  return JSON.stringify({
    inputs: tensors.map(({ data, datatype, name, shape }) => ({ name, datatype, shape, data })),
  });
}

export function whole(exchange: Exchange): Answer {
  const isGood = exchange.failure === null && exchange.status >= 200 && exchange.status < 300;
  if (!isGood) return failed(refusalOf(exchange));
  return { tokenTimesMs: [exchange.firstByteMs], tokensIn: null, tokensOut: null, error: null };
}

function textAnswer(exchange: Exchange): Answer {
  const answer = whole(exchange);
  if (answer.error !== null) return answer;
  return { ...answer, tokensOut: generatedTokens(exchange.body) };
}

function streamAnswer(exchange: Exchange, timesMs: readonly number[], last: string): Answer {
  if (exchange.failure !== null || exchange.status !== 200) return failed(refusalOf(exchange));
  const cause = /"finish_reason":\s*"error"/.test(last) ? errorOf(last) : null;
  if (cause !== null) return failed(cause);
  if (timesMs.length === 0) return failed('EMPTY_STREAM');
  return {
    tokenTimesMs: [...timesMs],
    tokensIn: null,
    tokensOut: generatedTokens(last) ?? timesMs.length,
    error: null,
  };
}

const errorOf = (line: string): string => (line.includes('error_msg') ? 'STREAM_ERROR' : 'STREAM_CUT');

function generatedTokens(json: string): number | null {
  const found = /"generated_tokens":\s*(\d+)/.exec(json)?.[1];
  return found === undefined ? null : Number(found);
}
