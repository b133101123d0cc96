/**
 * HTTP/2 beside HTTP/1 on an https:// address, by ALPN: what the dialects see is the same.
 *
 * In      a server that speaks both; its requests before anything has looked at them
 * Out     requests with the headers that HTTP/1 has; a stream that its client resets ends its jobs, as a closed socket does
 * Limits  MAX_STREAMS requests of a connection at once; REQUEST_TIMEOUT_MS to send a whole request, HEADERS_TIMEOUT_MS an HTTP/1 head; a
 *         connection without a request is closed after IDLE_MS. Resets in quick succession are nghttp2's to count: it closes the connection
 * Errors  BAD_REQUEST: a request for more than one host
 *
 * Without TLS there is HTTP/1 alone: an h2c client has no way to ask first, and gRPC has an address of its own.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { constants, type Http2ServerRequest, type ServerHttp2Session } from 'node:http2';
import { ServingError } from '../../proto/errors.js';

/** To receive a whole request: a sender that drips is dropped. */
export const REQUEST_TIMEOUT_MS = 120_000;
/** To send a request's head: who sends it byte by byte holds a connection no longer. */
export const HEADERS_TIMEOUT_MS = 30_000;
const MAX_STREAMS = 256;
/** What Fastify gives a connection of HTTP/1 between two requests. */
const IDLE_MS = 72_000;
/** A client that is told of the end has so long to send what it had begun. */
const LEAVE_MS = 1000;

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

/** node:http2 keeps a connection for ever that asks nothing: as many as max_connections would lock everybody out. */
export function endIdleSessions(server: NodeJS.EventEmitter, idleMs = IDLE_MS): void {
  server.on('session', (session: ServerHttp2Session) => {
    let streams = 0;
    let timer: NodeJS.Timeout | undefined;
    const idle = (): void => {
      timer = setTimeout(() => {
        session.goaway(constants.NGHTTP2_NO_ERROR);
        timer = setTimeout(() => session.destroy(), LEAVE_MS).unref();
      }, idleMs).unref();
    };
    idle();
    session.on('stream', (stream) => {
      clearTimeout(timer);
      streams += 1;
      stream.once('close', () => {
        streams -= 1;
        if (streams === 0 && !session.destroyed) idle();
      });
    });
    session.once('close', () => clearTimeout(timer));
  });
}

/**
 * A request names one host: where it names two, a proxy may go by one of them and this server by the other.
 *
 * @throws ServingError BAD_REQUEST
 */
export function refuseTwoHosts({ headers, rawHeaders }: IncomingMessage): void {
  const authority = headers[':authority'];
  let hosts = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!;
    if (name.length === 4 && name.toLowerCase() === 'host') hosts += 1;
  }
  const differs = hosts === 1 && authority !== undefined && authority !== headers.host;
  if (hosts > 1 || differs) throw new ServingError('BAD_REQUEST', 'The request names more than one host');
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
