/**
 * Answers a request for a handler: the body as it came, in its parts; the answer as the handler made it.
 *
 * In      ContentBody, headers and query of the request
 * Out     an Answer: status, headers and bytes of the handler's, streamed where it streams
 * Limits  headers that carry keys do not reach a handler
 * Errors  those of the job
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { InvokeRequest } from '../../requests/invoke-request.js';
import type { ChunkEvent, FinishEvent, HeadEvent } from '../../requests/job-events.js';
import type { Target } from '../../requests/target.js';
import type { ContentBody } from '../bodies/model-bodies.js';
import type { HttpContext } from '../http-context.js';
import type { Answer } from './answer.js';

/** Whose value lets its holder act as somebody. */
const SECRET_HEADERS = ['authorization', 'proxy-authorization', 'x-api-key', 'api-key', 'cookie'];
/** A handler says how its answer looks, not how the connection is kept. */
const CONNECTION_HEADERS = [
  'connection',
  'content-length',
  'date',
  'keep-alive',
  'transfer-encoding',
  'upgrade',
];

/** @param query parameters of the URL; they win over headers */
export function propertiesOf(headers: IncomingHttpHeaders, query: unknown): Record<string, string> {
  const all = [...Object.entries(headers), ...Object.entries((query ?? {}) as Record<string, unknown>)];
  return Object.fromEntries(
    all.flatMap(([key, value]) => {
      const name = key.toLowerCase();
      const text = Array.isArray(value) ? value.join(',') : value;
      // HTTP/2 has its method and path among them.
      const isHidden = name.startsWith(':') || SECRET_HEADERS.includes(name);
      return isHidden || typeof text !== 'string' ? [] : [[name, text]];
    }),
  );
}

export async function answerHandler(
  { service }: Pick<HttpContext, 'service'>,
  body: ContentBody,
  properties: Readonly<Record<string, string>>,
  { cacheSalt: _salt, ...to }: Target,
  client: AbortController,
): Promise<Answer> {
  const request: InvokeRequest = { kind: 'invoke', ...to, properties, content: body.parts };
  const { events } = await service.submit(request, client.signal);
  return {
    kind: 'content',
    make: async () => {
      const iterator = events[Symbol.asyncIterator]();
      const first = await iterator.next();
      if (first.done || first.value.kind !== 'head') throw new Error('an answer begins with its head');
      const { kind: _kind, headers, ...head } = first.value;
      return { ...head, headers: allowed(headers), chunks: chunksOf(iterator) };
    },
  };
}

async function* chunksOf(
  iterator: AsyncIterator<HeadEvent | ChunkEvent | FinishEvent>,
): AsyncGenerator<Uint8Array> {
  try {
    for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
      if (next.value.kind === 'chunk') yield next.value.bytes;
    }
  } finally {
    await iterator.return?.();
  }
}

const allowed = (headers: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(headers).filter(([name]) => /^[\w-]+$/.test(name) && !CONNECTION_HEADERS.includes(name)),
  );
