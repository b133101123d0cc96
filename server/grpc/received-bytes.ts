/**
 * Bytes of the messages that calls of a listener are sent, counted as they come: the package collects a message whole before anybody is
 * asked whose call it is.
 *
 * In      the stream below a call, its metadata
 * Out     an interceptor of every call
 * Limits  `maxBytes` over all calls until they end, or of a stream until its next message; the first FREE_BYTES of a call are not counted, and
 *         are all that a caller without a key may send, uncompressed; UPLOAD_MS for a message that has begun
 * Errors  QUEUE_FULL, UNAUTHENTICATED, REQUEST_TIMEOUT: the call ends at once, and what is still sent is thrown away
 */
import type { ServerHttp2Stream } from 'node:http2';
import {
  type Metadata,
  ResponderBuilder,
  ServerInterceptingCall,
  type ServerInterceptor,
  ServerListenerBuilder,
} from '@grpc/grpc-js';
import { ServingError } from '../../proto/errors.js';
import { noteArrival, statusOf } from './grpc-calls.js';

export const FREE_BYTES = 65_536;
const UPLOAD_MS = 120_000;
/** As much may come of a byte that is compressed, as a rule; the limit of a message holds besides. */
const COMPRESSED_FACTOR = 100;

/** What the package keeps to itself: the stream, and how its messages are written. */
interface Below {
  stream: ServerHttp2Stream;
  incomingEncoding: string;
}

/** @param isKnown whoever sends this metadata may make more calls than those that are open to all */
export function receivedBytes(maxBytes: number, isKnown: (metadata: Metadata) => boolean): ServerInterceptor {
  let inFlight = 0;
  return (method, call) => {
    const { incomingEncoding, stream } = call as unknown as Below;
    const isCompressed = incomingEncoding !== 'identity';
    let shown: Metadata | null = null;
    let isTrusted: boolean | null = null;
    /** Asked of a long call alone: the key is looked up again where the call is checked. */
    const mayBeLong = (): boolean => {
      isTrusted ??= shown !== null && isKnown(shown);
      return isTrusted;
    };
    let seen = 0;
    let held = 0;
    let timer: NodeJS.Timeout | undefined;
    const release = (): void => {
      clearTimeout(timer);
      timer = undefined;
      inFlight -= held;
      held = 0;
    };
    const refuse = (error: ServingError): void => {
      release();
      stream.removeAllListeners('data');
      stream.resume();
      call.sendStatus(statusOf(error));
      stream.once('finish', () => stream.close());
    };
    stream.on('data', (piece: Buffer) => {
      timer ??= setTimeout(() => refuse(tooSlow()), UPLOAD_MS);
      seen += piece.length;
      const counted = isCompressed ? seen * COMPRESSED_FACTOR : Math.max(0, seen - FREE_BYTES);
      if (counted > 0 && !mayBeLong()) return refuse(noKey());
      const more = Math.min(counted, maxBytes) - held;
      if (inFlight + more > maxBytes) return refuse(full(inFlight, maxBytes));
      inFlight += more;
      held += more;
    });
    stream.once('close', release);
    const listener = new ServerListenerBuilder()
      .withOnReceiveMetadata((metadata, next) => {
        shown = metadata;
        noteArrival(metadata);
        next(metadata);
      })
      .withOnReceiveMessage((message, next) => {
        clearTimeout(timer);
        timer = undefined;
        if (method.requestStream) {
          seen = 0;
          release();
        }
        next(message);
      })
      .build();
    return new ServerInterceptingCall(
      call,
      new ResponderBuilder().withStart((next) => next(listener)).build(),
    );
  };
}

const noKey = (): ServingError =>
  new ServingError('UNAUTHENTICATED', `Without a key a call may send ${FREE_BYTES} bytes, uncompressed`);

const tooSlow = (): ServingError =>
  new ServingError('REQUEST_TIMEOUT', `The message did not come within ${UPLOAD_MS / 1000} s`);

const full = (held: number, maxBytes: number): ServingError =>
  new ServingError(
    'QUEUE_FULL',
    `The messages of the running calls have ${held} bytes already, and at most ${maxBytes}, as many as max_request_size, are held at a time`,
    { retryAfterSeconds: 1 },
  );
