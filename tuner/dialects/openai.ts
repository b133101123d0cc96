/**
 * OpenAI's completions or chat completions, of any server that speaks them.
 *
 * In      the server's URL, the model's name; stream: server-sent events
 * Out     Answer; tokens by `usage` where the server gives it, else events with text
 * Source  OpenAI API reference; `ignore_eos` as vLLM, SGLang and llama.cpp's server know it
 */
import { type Answer, type Dialect, failed, type Payload, type TextPayload } from './dialect.js';
import { type HttpDialectOptions, whole } from './djl.js';
import { HttpConnections, refusalOf } from './http-exchange.js';

export interface OpenAiOptions extends HttpDialectOptions {
  chat: boolean;
}

const DATA = 'data:';
const USAGE = /"usage":\s*\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}/;

export class OpenAiDialect implements Dialect {
  readonly #options: OpenAiOptions;
  readonly #connections = new HttpConnections();

  constructor(options: OpenAiOptions) {
    this.#options = options;
  }

  close(): void {
    this.#connections.close();
  }

  async ask(payload: Payload, signal: AbortSignal): Promise<Answer> {
    const { chat, headers, path, stream, url } = this.#options;
    const call = {
      url: `${url}${path ?? (chat ? '/v1/chat/completions' : '/v1/completions')}`,
      headers: { 'content-type': 'application/json', ...headers },
    };
    if (payload.kind === 'bytes') {
      return whole(await this.#connections.exchange({ ...call, body: payload.body }, signal));
    }
    if (payload.kind === 'tensors') return failed('NO_TENSORS_IN_OPENAI');
    const body = this.#body(payload);
    if (!stream) {
      const exchange = await this.#connections.exchange({ ...call, body }, signal);
      const answer = whole(exchange);
      return answer.error === null ? { ...answer, ...usageOf(exchange.body) } : answer;
    }
    const timesMs: number[] = [];
    let usage = '';
    let error: string | null = null;
    const exchange = await this.#connections.exchange(
      {
        ...call,
        body,
        onLine: (line, timeMs) => {
          if (!line.startsWith(DATA) || line.endsWith('[DONE]')) return;
          if (line.startsWith('data: {"error"') || line.startsWith('data:{"error"')) error = codeOf(line);
          // What ends a stream and what counts it have no text.
          else if (hasText(line)) timesMs.push(timeMs);
          if (USAGE.test(line)) usage = line;
        },
      },
      signal,
    );
    if (exchange.failure !== null || exchange.status !== 200) return failed(refusalOf(exchange));
    if (error !== null) return failed(error);
    if (timesMs.length === 0) return failed('EMPTY_STREAM');
    const counted = usageOf(usage);
    return {
      tokenTimesMs: timesMs,
      tokensIn: counted.tokensIn,
      tokensOut: counted.tokensOut ?? timesMs.length,
      error: null,
    };
  }

  #body({ maxNewTokens, prompt }: TextPayload): string {
    const { chat, model, parameters, stream } = this.#options;
    return JSON.stringify({
      model,
      ...(chat ? { messages: [{ role: 'user', content: prompt }] } : { prompt }),
      max_tokens: maxNewTokens,
      temperature: 0,
      ignore_eos: true,
      ...(stream ? { stream: true, stream_options: { include_usage: true } } : {}),
      ...parameters,
    });
  }
}

/** A token's text may be empty (half a character); empty with a role or an end it is none. */
function hasText(line: string): boolean {
  if (!/"(?:text|content)":\s*"/.test(line)) return false;
  return !/"(?:text|content)":\s*""/.test(line) || !/"role":|"finish_reason":\s*"/.test(line);
}

function usageOf(text: string): { tokensIn: number | null; tokensOut: number | null } {
  const usage = USAGE.exec(text)?.[0] ?? '';
  const number = (field: string): number | null => {
    const found = new RegExp(`"${field}":\\s*(\\d+)`).exec(usage)?.[1];
    return found === undefined ? null : Number(found);
  };
  return { tokensIn: number('prompt_tokens'), tokensOut: number('completion_tokens') };
}

const codeOf = (line: string): string => /"code":\s*"([A-Za-z_]+)"/.exec(line)?.[1] ?? 'STREAM_ERROR';
