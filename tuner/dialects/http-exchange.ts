/**
 * One HTTP request and when its answer came, frame by frame.
 *
 * In      method, URL, headers, body; a deadline is the caller's signal
 * Out     status, when the first byte came, lines with the time of the piece they ended in
 * Limits  a line of at most MAX_LINE_BYTES; of an answer that was not asked as lines at most MAX_BODY_BYTES are kept
 * Errors  none thrown: how the connection failed stands in `failure`. A connection that was kept and breaks before anything of the answer
 *         has come may have been closed before the request: it is sent once more, on a new one, and only that one's failure counts. A
 *         server that breaks off in the middle of a request looks the same
 */
import { Agent, type IncomingMessage, request } from 'node:http';
import { Agent as TlsAgent, request as tlsRequest } from 'node:https';
import { monotonicMs } from '../load/monotonic.js';

const MAX_LINE_BYTES = 8 * 2 ** 20;
const MAX_BODY_BYTES = 64 * 2 ** 20;
const NEWLINE = 10;
const STALE = ['ECONNRESET', 'EPIPE'];
/** More than any load has: what limits the number of connections is the load. */
const MAX_SOCKETS = 65_536;

export interface Exchange {
  status: number;
  contentType: string;
  /** NaN: nothing came. */
  firstByteMs: number;
  body: string;
  /** The client's word for a connection that broke; null: it did not. */
  failure: string | null;
}

export interface HttpCall {
  url: string;
  headers: Record<string, string>;
  body: string | Uint8Array;
  /** Called for each line that is not empty, as it ends. Absent: the whole body is kept. */
  onLine?: (line: string, timeMs: number) => void;
}

export class HttpConnections {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: MAX_SOCKETS });
  readonly #tlsAgent = new TlsAgent({ keepAlive: true, maxSockets: MAX_SOCKETS });

  close(): void {
    this.#agent.destroy();
    this.#tlsAgent.destroy();
  }

  exchange({ body, headers, onLine, url }: HttpCall, signal: AbortSignal): Promise<Exchange> {
    const isTls = url.startsWith('https:');
    const result: Exchange = {
      status: 0,
      contentType: '',
      firstByteMs: Number.NaN,
      body: '',
      failure: null,
    };
    const send = (agent: Agent | false, resolve: (result: Exchange) => void): void => {
      const end = (failure: string | null): void => {
        result.failure ??= failure;
        resolve(result);
      };
      const sent = (isTls ? tlsRequest : request)(
        url,
        {
          method: 'POST',
          agent,
          headers: { ...headers, 'content-length': Buffer.byteLength(body) },
          signal,
        },
        (response) => {
          result.status = response.statusCode ?? 0;
          result.contentType = response.headers['content-type'] ?? '';
          const isGood = result.status >= 200 && result.status < 300;
          if (isGood && onLine) readLines(response, result, onLine, end);
          else readWhole(response, result, end);
        },
      );
      sent.once('error', (error: NodeJS.ErrnoException) => {
        const isStale = sent.reusedSocket && result.status === 0 && STALE.includes(error.code ?? '');
        if (isStale && !signal.aborted) send(false, resolve);
        else end(nameOf(error, signal));
      });
      sent.end(body);
    };
    return new Promise((resolve) => send(isTls ? this.#tlsAgent : this.#agent, resolve));
  }
}

/** A deadline of ours aborts with the reason it gives. */
function nameOf(error: NodeJS.ErrnoException, signal: AbortSignal): string {
  if (signal.aborted) return typeof signal.reason === 'string' ? signal.reason : 'CLIENT_CANCELLED';
  return error.code ?? error.name;
}

function readWhole(response: IncomingMessage, result: Exchange, end: (failure: string | null) => void): void {
  const chunks: Buffer[] = [];
  let length = 0;
  response.on('data', (chunk: Buffer) => {
    if (length === 0) result.firstByteMs = monotonicMs();
    length += chunk.length;
    if (length <= MAX_BODY_BYTES) chunks.push(chunk);
  });
  response.once('close', () => {
    result.body = Buffer.concat(chunks).toString('utf8');
    end(response.complete ? null : 'ANSWER_CUT');
  });
  response.once('error', () => {});
}

function readLines(
  response: IncomingMessage,
  result: Exchange,
  onLine: (line: string, timeMs: number) => void,
  end: (failure: string | null) => void,
): void {
  let rest: Buffer = Buffer.alloc(0);
  const take = (line: Buffer, timeMs: number): void => {
    const text = line.toString('utf8').trim();
    if (text !== '') onLine(text, timeMs);
  };
  response.on('data', (chunk: Buffer) => {
    const timeMs = monotonicMs();
    if (Number.isNaN(result.firstByteMs)) result.firstByteMs = timeMs;
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at !== -1; at = chunk.indexOf(NEWLINE, from)) {
      const piece = chunk.subarray(from, at);
      take(rest.length === 0 ? piece : Buffer.concat([rest, piece]), timeMs);
      rest = Buffer.alloc(0);
      from = at + 1;
    }
    if (from < chunk.length) rest = Buffer.concat([rest, chunk.subarray(from)]);
    if (rest.length > MAX_LINE_BYTES) {
      result.failure = 'LINE_TOO_LONG';
      response.destroy();
    }
  });
  response.once('close', () => {
    if (rest.length > 0 && result.failure === null) take(rest, monotonicMs());
    end(response.complete ? null : 'ANSWER_CUT');
  });
  response.once('error', () => {});
}

/** The code of the server's table that a refusal's body names, else its status. */
export function refusalOf({ body, failure, status }: Exchange): string {
  if (failure !== null) return failure;
  const named = /"(?:code|type|error|errorCode)"\s*:\s*"([A-Z][A-Z_]{3,40})"/.exec(body)?.[1];
  return named ?? `HTTP_${status}`;
}
