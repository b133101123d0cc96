/**
 * What every call of the gRPC server shares: who may make it, how long it may take, when its client has left, how an error is told.
 *
 * In      a call's metadata, deadline and cancellation
 * Out     the key it came with, an AbortSignal, the time that is left
 * Errors  ServingError → the table's gRPC status, with the code and, where a retry may help, retry-after in the trailing metadata
 */
import { randomUUID } from 'node:crypto';
import { Metadata, type ServerDuplexStream, type ServerUnaryCall, type StatusObject } from '@grpc/grpc-js';
import { ServingError } from '../../proto/errors.js';
import type { AccessControl } from '../access/access-control.js';
import { type AccessKey, idOf, type Scope } from '../access/access-key.js';
import type { Target } from '../http/openai-request.js';

type Call = ServerUnaryCall<unknown, unknown> | ServerDuplexStream<unknown, unknown>;

const MAX_ID_CHARACTERS = 256;

/** @throws ServingError UNAUTHENTICATED, FORBIDDEN */
export function checkCall(call: Call, access: AccessControl, scope: Scope): AccessKey | null {
  const headers = call.metadata.getMap();
  const text = (name: string): string | undefined => {
    const value = headers[name];
    return typeof value === 'string' ? value : undefined;
  };
  const [authorization, key] = [text('authorization'), text('x-api-key')];
  const found = access.keyOf({
    ...(authorization === undefined ? {} : { authorization }),
    ...(key === undefined ? {} : { 'x-api-key': key }),
  });
  access.demand(found, [scope]);
  return found;
}

/** Aborted when the client cancels or its deadline passes; a signal that is aborted too late does nothing. */
export function callSignal(call: Call): AbortSignal {
  const client = new AbortController();
  call.once('cancelled', () => client.abort());
  if (call.cancelled) client.abort();
  return client.signal;
}

/** Where a request goes, by its message and its metadata (x-request-id, x-priority). @throws ServingError BAD_REQUEST */
export function targetOf(
  call: Call,
  key: AccessKey | null,
  message: { model_name: string; model_version: string; id: string },
): Target {
  const [given] = call.metadata.get('x-request-id');
  const id = message.id !== '' ? message.id : typeof given === 'string' ? given : '';
  const requestId = id !== '' && id.length <= MAX_ID_CHARACTERS ? id : randomUUID();
  const left = timeLeftMs(call);
  return {
    requestId,
    model: message.model_name,
    version: message.model_version === '' ? null : message.model_version,
    ...(left === null ? {} : { timeoutMs: left }),
    ...priorityOf(call, key),
    ...(key === null ? {} : { cacheSalt: JSON.stringify([idOf(key), null]) }),
  };
}

function timeLeftMs(call: Call): number | null {
  const deadline = call.getDeadline();
  const at = deadline instanceof Date ? deadline.getTime() : deadline;
  return Number.isFinite(at) ? Math.max(1, Math.round(at - Date.now())) : null;
}

function priorityOf(call: Call, key: AccessKey | null): { priority?: number } {
  const [text] = call.metadata.get('x-priority');
  if (text === undefined) return {};
  const priority = Number(text);
  const { max = 2 ** 31 - 1, min = -(2 ** 31) } = key?.priority ?? {};
  if (Number.isInteger(priority) && priority >= min && priority <= max) return { priority };
  throw new ServingError(
    'BAD_REQUEST',
    `x-priority is ${String(text).slice(0, 40)}; it must be a whole number from ${min} to ${max}`,
  );
}

/** How a ServingError is told; anything else is INTERNAL, without its message. */
export function statusOf(thrown: unknown): Pick<StatusObject, 'code' | 'details' | 'metadata'> {
  const error = ServingError.from(thrown);
  const metadata = new Metadata();
  metadata.set('error-code', error.code);
  if (error.retryAfterSeconds !== undefined) metadata.set('retry-after', String(error.retryAfterSeconds));
  return { code: error.grpcStatus, details: error.message, metadata };
}
