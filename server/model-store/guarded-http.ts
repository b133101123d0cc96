/**
 * HTTP GET that talks only to hosts and addresses a guard admits, redirects included.
 *
 * In      a URL, headers, a guard
 * Out     status, headers and the unread body; or, as a `fetch`, a whole small answer
 * Limits  MAX_REDIRECTS; IDLE_MS without a byte; MAX_ANSWER_BYTES for the buffered form
 * Errors  ServingError of the guard; BAD_REQUEST for a redirect that is refused; TransportError for what a retry may mend
 * Source  RFC 9110 §15.4 (redirects)
 *
 * Names are resolved once, by the lookup whose addresses are then connected to: nothing can change in between. No
 * connection is kept, so that every request is checked. Proxies are not used.
 */
import dns from 'node:dns';
import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import type { LookupFunction } from 'node:net';
import { ServingError } from '../../proto/errors.js';
import { type HostRule, isPublicAddress, literalAddress } from './host-policy.js';
import { displayUrl } from './model-source.js';

export const MAX_REDIRECTS = 5;
export const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
const IDLE_MS = 30_000;

/** The network or the server failed; the same request may succeed. */
export class TransportError extends Error {
  override readonly name = 'TransportError';
}

export interface HttpGuard {
  /** Whether a host may be asked. */
  rule(url: URL): HostRule;
  /** Headers that only this origin may see. */
  secretHeaders?(url: URL): Record<string, string>;
}

export interface HttpAnswer {
  /** After redirects. */
  url: URL;
  status: number;
  headers: http.IncomingHttpHeaders;
  /** To be read to its end or destroyed. */
  body: IncomingMessage;
}

/**
 * @throws ServingError BAD_REQUEST a host, address or redirect is refused; CANCELLED
 * @throws TransportError
 */
export async function guardedGet(
  start: URL,
  headers: Record<string, string>,
  guard: HttpGuard,
  signal: AbortSignal | undefined,
): Promise<HttpAnswer> {
  let url = start;
  for (let redirects = 0; ; redirects++) {
    const body = await getOnce(url, { ...headers, ...guard.secretHeaders?.(url) }, guard, signal);
    const status = body.statusCode ?? 0;
    const { location } = body.headers;
    if (![301, 302, 303, 307, 308].includes(status) || location === undefined) {
      return { url, status, headers: body.headers, body };
    }
    body.destroy();
    if (redirects === MAX_REDIRECTS) {
      throw new ServingError(
        'BAD_REQUEST',
        `${displayUrl(start)} redirects more than ${MAX_REDIRECTS} times`,
      );
    }
    url = redirectTarget(url, location);
  }
}

function redirectTarget(from: URL, location: string): URL {
  let to: URL;
  try {
    to = new URL(location, from);
  } catch (cause) {
    throw new ServingError('BAD_REQUEST', `${displayUrl(from)} redirects to what is no URL`, { cause });
  }
  if (from.protocol === 'https:' && to.protocol !== 'https:') {
    throw new ServingError('BAD_REQUEST', `${displayUrl(from)} redirects from https to ${to.protocol}`);
  }
  // The first URL's user and password stay with its origin; a redirect brings none of its own.
  to.username = to.origin === from.origin ? from.username : '';
  to.password = to.origin === from.origin ? from.password : '';
  return to;
}

function getOnce(
  url: URL,
  headers: Record<string, string>,
  guard: HttpGuard,
  signal: AbortSignal | undefined,
): Promise<IncomingMessage> {
  const rule = admit(url, guard);
  const get = url.protocol === 'https:' ? https.get : http.get;
  return new Promise((resolve, reject) => {
    const fail = (cause: Error): void => {
      if (signal?.aborted)
        reject(new ServingError('CANCELLED', 'Fetching the model was cancelled', { cause }));
      else if (cause instanceof ServingError) reject(cause);
      else reject(new TransportError(`${url.host} cannot be reached (${reasonOf(cause)})`, { cause }));
    };
    const request = get(
      url,
      {
        agent: false,
        headers: { 'user-agent': 'shardserve', 'accept-encoding': 'identity', ...headers },
        lookup: rule === 'public-only' ? publicLookup : dns.lookup,
        timeout: IDLE_MS,
        ...(signal ? { signal } : {}),
      },
      (body) => {
        // An abort may come before anybody reads.
        body.on('error', () => undefined);
        resolve(body);
      },
    );
    request.on('error', fail);
    request.on('timeout', () => request.destroy(new Error(`no byte for ${IDLE_MS} ms`)));
  });
}

/** @throws ServingError BAD_REQUEST */
function admit(url: URL, guard: HttpGuard): HostRule {
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new ServingError('BAD_REQUEST', `${url.protocol} is no scheme to download by; http and https are`);
  }
  const rule = guard.rule(url);
  if (rule === 'refused') {
    throw new ServingError('BAD_REQUEST', `The host ${url.host} is not on the list of allowed hosts`);
  }
  const address = literalAddress(url);
  if (rule === 'public-only' && address !== null && !isPublicAddress(address)) throw privateAddress(url.host);
  return rule;
}

/** One private address among the answers refuses the name: it may be the one that is connected to. */
const publicLookup: LookupFunction = (hostname, options, callback) => {
  dns.lookup(hostname, { ...options, all: true }, (error, addresses) => {
    const [first] = addresses ?? [];
    if (error || first === undefined) return callback(error ?? new Error('no address'), '', 4);
    if (addresses.some(({ address }) => !isPublicAddress(address))) {
      return callback(privateAddress(hostname), '', 4);
    }
    if (options.all) return callback(null, addresses);
    return callback(null, first.address, first.family);
  });
};

function privateAddress(host: string): ServingError {
  return new ServingError(
    'BAD_REQUEST',
    `The host ${host} has a private address; name it in the list of allowed hosts to download from it`,
  );
}

function reasonOf(error: Error): string {
  return (error as NodeJS.ErrnoException).code ?? error.message;
}

/** A `fetch` for clients that want one: GET only, whole answers of at most MAX_ANSWER_BYTES. */
export function bufferedFetch(guard: HttpGuard, signal: AbortSignal | undefined): typeof fetch {
  return async (input, init) => {
    const url = new URL(input instanceof Request ? input.url : input);
    const headers = Object.fromEntries(new Headers(init?.headers));
    const answer = await guardedGet(url, headers, guard, signal);
    const chunks: Buffer[] = [];
    let bytes = 0;
    try {
      for await (const chunk of answer.body) {
        bytes += (chunk as Buffer).length;
        if (bytes > MAX_ANSWER_BYTES) {
          throw new ServingError(
            'BAD_REQUEST',
            `${displayUrl(answer.url)} answers with more than ${MAX_ANSWER_BYTES} bytes`,
          );
        }
        chunks.push(chunk as Buffer);
      }
    } catch (cause) {
      answer.body.destroy();
      if (cause instanceof ServingError) throw cause;
      if (signal?.aborted) throw new ServingError('CANCELLED', 'Fetching the model was cancelled', { cause });
      throw new TransportError(`${answer.url.host} cut its answer short`, { cause });
    }
    const hasBody = ![204, 205, 304].includes(answer.status);
    const response = new Response(hasBody ? Buffer.concat(chunks) : null, {
      status: answer.status,
      headers: Object.entries(answer.headers).flatMap(([name, value]) =>
        [value ?? []].flat().map((one): [string, string] => [name, one]),
      ),
    });
    // A constructed Response has no address; the hub's client compares it.
    Object.defineProperty(response, 'url', { value: answer.url.href });
    return response;
  };
}
