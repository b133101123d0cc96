/**
 * HTTP/2 beside HTTP/1 on an https:// address, by ALPN: what the dialects see is the same.
 *
 * In      a server that speaks both; its requests before anything has looked at them
 * Out     requests with the headers that HTTP/1 has; a stream that its client resets ends its jobs, as a closed socket does
 * Limits  MAX_STREAMS requests of a connection at once; REQUEST_TIMEOUT_MS to send a whole request, HEADERS_TIMEOUT_MS an HTTP/1 head. Resets in quick
 *         succession are nghttp2's to count: it closes the connection
 * Errors  none
 *
 * Without TLS there is HTTP/1 alone: an h2c client has no way to ask first, and gRPC has an address of its own.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { constants, type Http2ServerRequest } from 'node:http2';

/** To receive a whole request: a sender that drips is dropped. */
export const REQUEST_TIMEOUT_MS = 120_000;
/** To send a request's head: who sends it byte by byte holds a connection no longer. */
export const HEADERS_TIMEOUT_MS = 30_000;
const MAX_STREAMS = 256;

/** For node:http2's server. */
export const HTTP2_OPTIONS = {
  allowHTTP1: true,
  settings: { maxConcurrentStreams: MAX_STREAMS, enablePush: false },
};

/** It takes HTTP/1 too, whose limits node:http2 has by other defaults. */
export function limitHttp1(server: Server): void {
  server.headersTimeout = HEADERS_TIMEOUT_MS;
  server.requestTimeout = REQUEST_TIMEOUT_MS;
}

export const isHttp2 = ({ httpVersionMajor }: Pick<IncomingMessage, 'httpVersionMajor'>): boolean =>
  httpVersionMajor >= 2;

/** As if it had come by HTTP/1; nothing happens to one that has. */
export function asHttp1(raw: IncomingMessage): void {
  if (!isHttp2(raw)) return;
  const { headers, stream } = raw as unknown as Http2ServerRequest;
  // What is allowed by the host's name is allowed by this one.
  headers.host ??= headers[':authority'];
  const timer = setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), REQUEST_TIMEOUT_MS).unref();
  raw.once('end', () => clearTimeout(timer));
  stream.once('close', () => clearTimeout(timer));
}

/** Nobody reads the response any more. */
export function isGone(raw: ServerResponse): boolean {
  // HTTP/2's response knows it by its stream alone.
  const { stream } = raw as { stream?: { destroyed: boolean } };
  return stream?.destroyed ?? raw.destroyed;
}

/** All of it has left, once it is closed. */
export function isComplete(raw: ServerResponse): boolean {
  // HTTP/2's says that it is finished where its client has reset it, too.
  const { stream } = raw as { stream?: { aborted: boolean; writableFinished: boolean } };
  return stream === undefined ? raw.writableFinished : stream.writableFinished && !stream.aborted;
}

export function needsDrain(raw: ServerResponse): boolean {
  const { stream } = raw as { stream?: { writableNeedDrain: boolean } };
  return stream?.writableNeedDrain ?? raw.writableNeedDrain;
}
