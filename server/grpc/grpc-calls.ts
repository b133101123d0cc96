/**
 * What every call of the gRPC server shares: who may make it, how long it may take, when its client has left, how an error is told.
 *
 * In      a call's metadata, deadline and cancellation
 * Out     the key it came with, an AbortSignal, the time that is left, and where its time has gone
 * Errors  ServingError → the table's gRPC status, with the code and, where a retry may help, retry-after in the trailing metadata
 */
import { randomUUID } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import {
  Metadata,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type StatusObject,
} from '@grpc/grpc-js';
import { ServingError, wellFormed } from '../../proto/errors.js';
import type { AccessControl } from '../access/access-control.js';
import type { AccessKey, Scope } from '../access/access-key.js';
import { clientController } from '../requests/client-controller.js';
import { requestControl } from '../requests/request-control.js';
import { RequestTimes, type TimeParts } from '../requests/request-times.js';
import type { Target } from '../requests/target.js';

type Call =
  | ServerUnaryCall<unknown, unknown>
  | ServerWritableStream<unknown, unknown>
  | ServerDuplexStream<unknown, unknown>;

const MAX_ID_CHARACTERS = 256;
const MAX_DETAILS = 2048;

/** @throws ServingError UNAUTHENTICATED, FORBIDDEN */
export function checkCall(call: Call, access: AccessControl, scope: Scope): AccessKey | null {
  const found = access.keyOf(headersOf(call));
  access.demand(found, [scope]);
  return found;
}

/** For the log; null: without a key, or with one that is none of ours. */
export function keyNameOf(call: Call, access: AccessControl): string | null {
  try {
    return access.keyOf(headersOf(call))?.name ?? null;
  } catch {
    return null;
  }
}

/** It shows a key of ours, or something is open to those that show none. */
export function isKnown(metadata: Metadata, access: AccessControl): boolean {
  try {
    return access.keyOf(headersOf({ metadata })) !== null || access.anonymousScopes.length > 0;
  } catch {
    return false;
  }
}

/** A call's metadata as HTTP's headers: what is text of it. */
export const headersOf = ({ metadata }: { metadata: Metadata }): IncomingHttpHeaders =>
  Object.fromEntries(
    Object.entries(metadata.getMap()).filter(
      (entry): entry is [string, string] => typeof entry[1] === 'string',
    ),
  );

/** Aborted when the client cancels or its deadline passes; a signal that is aborted too late does nothing. */
export function callController(call: Call): AbortController {
  const client = clientController();
  (call as ServerUnaryCall<unknown, unknown>).once('cancelled', () => client.abort());
  if (call.cancelled) client.abort();
  return client;
}

/** For one request of several that a call brings: it ends with the call, or when it is left. */
export function ownController(call: AbortSignal): { own: AbortController; leave(): void } {
  const own = clientController();
  const end = (): void => own.abort();
  if (call.aborted) end();
  else call.addEventListener('abort', end, { once: true });
  return {
    own,
    leave: () => {
      call.removeEventListener('abort', end);
      end();
    },
  };
}

/**
 * Where a request goes, by its message; how, by its metadata, which are HTTP's headers (x-request-id, x-priority, the salt), and by the
 * call's deadline.
 *
 * @throws ServingError BAD_REQUEST
 */
export function targetOf(
  call: Call,
  key: AccessKey | null,
  message: { model_name: string; model_version: string; id: string },
): Target {
  const headers = headersOf(call);
  const given = headers['x-request-id'];
  const id = message.id !== '' ? message.id : typeof given === 'string' ? given : '';
  const requestId = id !== '' && id.length <= MAX_ID_CHARACTERS ? id : randomUUID();
  const left = timeLeftMs(call);
  return {
    requestId,
    model: message.model_name,
    version: message.model_version === '' ? null : message.model_version,
    ...requestControl(headers, key),
    ...(left === null ? {} : { timeoutMs: left }),
  };
}

function timeLeftMs(call: Call): number | null {
  const deadline = call.getDeadline();
  const at = deadline instanceof Date ? deadline.getTime() : deadline;
  return Number.isFinite(at) ? Math.max(1, Math.round(at - Date.now())) : null;
}

const arrivals = new WeakMap<Metadata, number>();

/** When a call began: long before its message is there, if that is a long one. */
export function noteArrival(metadata: Metadata): void {
  arrivals.set(metadata, performance.now());
}

/** For a message that has just come, from when its call began; null: one of a stream. The jobs of `signal` are its own. */
export function timesOf(call: Pick<Call, 'metadata'> | null, signal: AbortSignal): RequestTimes {
  const times = new RequestTimes(call === null ? undefined : arrivals.get(call.metadata));
  times.bodyRead();
  times.follow(signal);
  return times;
}

/** Tells the parts of an answer that was handed over, if a model was asked. */
export function tellAnswered(times: RequestTimes, onAnswered?: (parts: TimeParts) => void): void {
  const parts = times.parts();
  if (parts !== null) onAnswered?.(parts);
}

/** What HTTP says in a header of the same name. */
export function timingOf(times: RequestTimes): Metadata {
  const metadata = new Metadata();
  const told = times.header();
  if (told !== null) metadata.set('server-timing', told);
  return metadata;
}

/** How a ServingError is told; anything else is INTERNAL, without its message. */
export function statusOf(thrown: unknown): Pick<StatusObject, 'code' | 'details' | 'metadata'> {
  const error = ServingError.from(thrown);
  const metadata = new Metadata();
  metadata.set('error-code', error.code);
  if (error.retryAfterSeconds !== undefined) metadata.set('retry-after', String(error.retryAfterSeconds));
  return { code: error.grpcStatus, details: detailsOf(error.message), metadata };
}

/** A message as it can be a header, where it may have no halves of characters and nine times its length. */
export function detailsOf(message: string): string {
  const cut = message.length > MAX_DETAILS ? `${message.slice(0, MAX_DETAILS)}…` : message;
  return wellFormed(cut);
}

/** What is sent to a stream waits with its client, but for one message: the package would read sixteen. */
export function readOneAhead(stream: { readableHighWaterMark: number }): void {
  const { _readableState: state } = stream as unknown as { _readableState: { highWaterMark: number } };
  state.highWaterMark = 1;
}

export const readerStopped = (limitMs: number): ServingError =>
  new ServingError('REQUEST_TIMEOUT', `The reader of the stream took nothing for ${limitMs / 1000} s`);

/** The reader takes again, or has left. @returns false: it has taken nothing for so long */
export async function drained(
  stream: Pick<NodeJS.EventEmitter, 'once' | 'off'>,
  client: AbortSignal,
  limitMs: number,
): Promise<boolean> {
  if (client.aborted) return true;
  return new Promise((resolve) => {
    const end = (hasTaken: boolean): void => {
      clearTimeout(timer);
      stream.off('drain', onDrain);
      client.removeEventListener('abort', onDrain);
      resolve(hasTaken);
    };
    const onDrain = (): void => end(true);
    const timer = setTimeout(() => end(false), limitMs);
    stream.once('drain', onDrain);
    client.addEventListener('abort', onDrain, { once: true });
  });
}
