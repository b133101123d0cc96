/**
 * Bytes of the messages that calls of a listener are sent, counted as they come: the package collects a message whole before anybody is
 * asked whose call it is.
 *
 * In      the stream below a call, its metadata; a service, and its types
 * Out     an interceptor of every call, which tells whole answers to unread-messages.ts; the service, whose messages are looked at before they are made objects of
 * Limits  `maxCalls` at a time, beside them as many probes; `maxBytes` over all calls until they end, of a stream until it is done with each message; the first FREE_BYTES of a call are not counted, and
 *         are all that a caller without a key may send, uncompressed; UPLOAD_MS for a message that has begun. A message that would take
 *         more than `maxBytes` as objects is not decoded; one that takes less counts as that
 * Errors  QUEUE_FULL, UNAUTHENTICATED, REQUEST_TIMEOUT, BAD_REQUEST: the call ends at once, and what is still sent is thrown away
 */
import assert from 'node:assert/strict';
import { constants, type ServerHttp2Stream } from 'node:http2';
import {
  type Metadata,
  ResponderBuilder,
  ServerInterceptingCall,
  type ServerInterceptor,
  ServerListenerBuilder,
  type ServiceDefinition,
} from '@grpc/grpc-js';
import type protobuf from 'protobufjs';
import { ServingError } from '../../proto/errors.js';
import { decodedBytes, messageShape } from './decoded-bytes.js';
import { noteArrival, statusOf } from './grpc-calls.js';
import type { UnreadMessages } from './unread-messages.js';

export const FREE_BYTES = 65_536;
const UPLOAD_MS = 120_000;
/** Who is full is alive. */
const PROBES = ['.Health/Check', '/ServerLive', '/ServerReady'];
/** As much may come of a byte that is compressed, as a rule; the limit of a message holds besides. */
const COMPRESSED_FACTOR = 100;

/** What the package keeps to itself: the stream, and how its messages are written. */
interface Below {
  stream: ServerHttp2Stream;
  incomingEncoding: string;
}

/** Instead of a message that is not decoded. */
class Refused {
  readonly error: ServingError;

  constructor(error: ServingError) {
    this.error = error;
  }
}

/** What messages take that are more as objects than on the wire. */
const tookBytes = new WeakMap<object, number>();
const streams = new WeakMap<Metadata, ServerHttp2Stream>();

/** What gives back the bytes of a stream's message. */
const holds = new WeakMap<object, () => void>();

/** A message of a stream is answered: its bytes count no more. */
export const doneWith = (message: object): void => holds.get(message)?.();

/** What a message takes as objects; 0: no more than its bytes. */
export const bytesOfMessage = (message: object): number => tookBytes.get(message) ?? 0;

/** Ends a call whose reader takes nothing: a status would wait behind what it has not taken. */
export function cutOff({ metadata }: { metadata: Metadata }): void {
  streams.get(metadata)?.close(constants.NGHTTP2_CANCEL);
}

/** The same service, with a look at each message's bytes first. */
export function boundedMessages(
  service: ServiceDefinition,
  { methods }: protobuf.Service,
  maxBytes: number,
): ServiceDefinition {
  const bounded = Object.entries(service).map(([name, method]) => {
    methods[name]?.resolve();
    const type = methods[name]?.resolvedRequestType;
    assert(type, `${name} has no type`);
    const shape = messageShape(type);
    const requestDeserialize = (bytes: Buffer): unknown => {
      const takes = decodedBytes(shape, bytes);
      if (takes > maxBytes) return new Refused(tooManyParts(bytes.length, takes, maxBytes));
      const message = method.requestDeserialize(bytes) as object;
      if (takes > bytes.length) tookBytes.set(message, takes);
      return message;
    };
    return [name, { ...method, requestDeserialize }];
  });
  return Object.fromEntries(bounded) as ServiceDefinition;
}

export interface ReceivedLimits {
  maxBytes: number;
  maxCalls: number;
  /** Whoever sends this metadata may make more calls than those that are open to all. */
  isKnown(metadata: Metadata): boolean;
  /** Takes whole answers. */
  unread: Pick<UnreadMessages, 'begin'>;
}

export function receivedBytes({ isKnown, maxBytes, maxCalls, unread }: ReceivedLimits): ServerInterceptor {
  let inFlight = 0;
  let calls = 0;
  return (method, call) => {
    const { incomingEncoding, stream } = call as unknown as Below;
    const isProbe = PROBES.some((probe) => method.path.endsWith(probe));
    calls += 1;
    stream.once('close', () => {
      calls -= 1;
    });
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
    /** Messages of a stream that it is not done with. */
    const kept = new Set<() => void>();
    const release = (): void => {
      clearTimeout(timer);
      timer = undefined;
      inFlight -= held;
      held = 0;
      for (const giveBack of kept) giveBack();
    };
    /** What is held so far is the message's. */
    const keep = (message: object): void => {
      const bytes = held;
      held = 0;
      seen = 0;
      if (bytes === 0) return;
      const giveBack = (): void => {
        if (kept.delete(giveBack)) inFlight -= bytes;
      };
      kept.add(giveBack);
      holds.set(message, giveBack);
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
        if (calls > (isProbe ? 2 : 1) * maxCalls) return refuse(tooManyCalls(maxCalls));
        shown = metadata;
        noteArrival(metadata);
        streams.set(metadata, stream);
        next(metadata);
      })
      .withOnReceiveMessage((message, next) => {
        clearTimeout(timer);
        timer = undefined;
        if (message instanceof Refused) return refuse(message.error);
        const more = bytesOfMessage(message as object) - FREE_BYTES - held;
        if (more > 0 && inFlight + more > maxBytes) return refuse(full(inFlight, maxBytes));
        inFlight += Math.max(0, more);
        held += Math.max(0, more);
        if (method.requestStream) keep(message as object);
        next(message);
      })
      .build();
    return new ServerInterceptingCall(
      call,
      new ResponderBuilder()
        .withStart((next) => next(listener))
        .withSendMessage((message, next) => {
          next(message);
          if (!method.responseStream) unread.begin(stream);
        })
        .build(),
    );
  };
}

const noKey = (): ServingError =>
  new ServingError('UNAUTHENTICATED', `Without a key a call may send ${FREE_BYTES} bytes, uncompressed`);

const tooManyCalls = (most: number): ServingError =>
  new ServingError('QUEUE_FULL', `${most} calls are running, as many as may be`, { retryAfterSeconds: 1 });

const tooManyParts = (bytes: number, takes: number, maxBytes: number): ServingError =>
  new ServingError(
    'BAD_REQUEST',
    `The message has ${bytes} bytes, but so many parts that it would take ${takes} in memory, and max_request_size is ${maxBytes}: send numbers as raw_input_contents`,
  );

const tooSlow = (): ServingError =>
  new ServingError('REQUEST_TIMEOUT', `The message did not come within ${UPLOAD_MS / 1000} s`);

const full = (held: number, maxBytes: number): ServingError =>
  new ServingError(
    'QUEUE_FULL',
    `The messages of the running calls have ${held} bytes already, and at most ${maxBytes}, as many as max_request_size, are held at a time`,
    { retryAfterSeconds: 1 },
  );
