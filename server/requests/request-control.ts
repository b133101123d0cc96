/**
 * What headers say about a request as a job: its priority, its deadline; and SageMaker's way to send headers at all.
 *
 * In      x-priority, x-request-timeout-ms, x-cache-salt, x-session-id; X-Amzn-SageMaker-Custom-Attributes: `name=value;name=value`
 * Out     optional fields of a GenerateRequest; the attributes as headers of their own, where there is none of that name
 * Limits  MAX_ATTRIBUTES_CHARACTERS (SageMaker's); only the names in ATTRIBUTE_HEADERS; MAX_TIMEOUT_MS
 * Errors  BAD_REQUEST
 * Source  DJLServing 0.36; SageMaker's container contract. SageMaker's endpoint drops headers that it does not know, so its attributes carry them
 */
import type { IncomingHttpHeaders } from 'node:http';
import { ServingError } from '../../proto/errors.js';
import { type AccessKey, idOf } from '../access/access-key.js';
import type { GenerateRequest } from './generate-request.js';
import { MAX_SALT_CHARACTERS } from './sampling-fields.js';
import type { InferenceService } from './service.js';
import { quote } from './validation.js';

export const CUSTOM_ATTRIBUTES_HEADER = 'x-amzn-sagemaker-custom-attributes';
const MAX_ATTRIBUTES_CHARACTERS = 1024;
const MAX_TIMEOUT_MS = 86_400_000;
/** A Java int. */
const MAX_PRIORITY = 2 ** 31 - 1;
/** Either way; more is for keys. */
const PRIORITY_WITHOUT_KEY = 10;
const ATTRIBUTE_HEADERS = [
  'model_name',
  'model_version',
  'handler',
  'x-synchronous',
  'x-starting-token',
  'x-max-items',
  'x-priority',
  'x-request-timeout-ms',
  'x-cache-salt',
  'x-session-id',
];
/** SageMaker's, of a session that the server has opened (http/dialects/djl/lmi-sessions.ts). */
export const SESSION_HEADER = 'x-amzn-sagemaker-session-id';
const MAX_SESSION_CHARACTERS = 256;

/** @throws ServingError BAD_REQUEST when they are longer than SageMaker allows */
export function spreadCustomAttributes(headers: IncomingHttpHeaders): void {
  const given = headers[CUSTOM_ATTRIBUTES_HEADER];
  if (typeof given !== 'string') return;
  if (given.length > MAX_ATTRIBUTES_CHARACTERS) {
    throw new ServingError(
      'BAD_REQUEST',
      `X-Amzn-SageMaker-Custom-Attributes must have at most ${MAX_ATTRIBUTES_CHARACTERS} characters, got ${given.length}`,
    );
  }
  for (const pair of given.split(';')) {
    const [name = '', value] = pair.split(/=(.*)/s).map((part) => part.trim());
    const header = name.toLowerCase();
    if (value !== undefined && ATTRIBUTE_HEADERS.includes(header)) headers[header] ??= value;
  }
}

/** @throws ServingError BAD_REQUEST */
export function requestControl(
  headers: IncomingHttpHeaders,
  key: AccessKey | null = null,
): Pick<GenerateRequest, 'priority' | 'timeoutMs' | 'cacheSalt' | 'tenant'> {
  const asked = integerHeader(
    headers,
    'x-priority',
    key === null ? -PRIORITY_WITHOUT_KEY : (key.priority?.min ?? -MAX_PRIORITY - 1),
    key === null ? PRIORITY_WITHOUT_KEY : (key.priority?.max ?? MAX_PRIORITY),
  );
  // Who asks for none has the usual one, or the nearest that the key may have.
  const range = key?.priority ?? null;
  const priority = asked ?? (range && Math.min(range.max, Math.max(range.min, 0)));
  const timeoutMs = integerHeader(headers, 'x-request-timeout-ms', 1, MAX_TIMEOUT_MS);
  // The rows of one key's prompts are never another's: how long a prompt takes would tell what others asked.
  const given = saltHeader(headers);
  const cacheSalt = key === null ? given : JSON.stringify([idOf(key), given]);
  return {
    ...(priority !== null && { priority }),
    ...(timeoutMs !== null && { timeoutMs }),
    ...(cacheSalt !== null && { cacheSalt }),
    ...(key !== null && { tenant: { id: idOf(key), weight: key.weight ?? 1 } }),
  };
}

/**
 * A target whose version is settled, once a request: its form, its tokens and its jobs are all of the same one.
 *
 * @throws ServingError BAD_REQUEST
 */
export function withVersion<T extends { model: string; version: string | null }>(
  target: T,
  service: Pick<InferenceService, 'chooseVersion'>,
  headers: IncomingHttpHeaders,
): T {
  const session = sessionOf(headers);
  if (target.version !== null) return target;
  return { ...target, version: service.chooseVersion?.(target.model, session) ?? null };
}

/**
 * Whose requests get one version of a model, where it has several; null: nobody says.
 *
 * @throws ServingError BAD_REQUEST
 */
function sessionOf(headers: IncomingHttpHeaders): string | null {
  const given = headers['x-session-id'] ?? headers[SESSION_HEADER];
  if (given === undefined) return null;
  if (typeof given === 'string' && given.length > 0 && given.length <= MAX_SESSION_CHARACTERS) return given;
  throw new ServingError(
    'BAD_REQUEST',
    `x-session-id must be a string of 1 … ${MAX_SESSION_CHARACTERS} characters, got ${quote(given)}`,
  );
}

/** Set by a gateway that knows the tenant: keys and values are shared only among requests of one salt. */
function saltHeader(headers: IncomingHttpHeaders): string | null {
  const given = headers['x-cache-salt'];
  if (given === undefined) return null;
  if (typeof given === 'string' && given.length > 0 && given.length <= MAX_SALT_CHARACTERS) return given;
  throw new ServingError(
    'BAD_REQUEST',
    `x-cache-salt must be a string of 1 … ${MAX_SALT_CHARACTERS} characters, got ${quote(given)}`,
  );
}

/**
 * @returns null when the header is not there
 * @throws ServingError BAD_REQUEST
 */
export function integerHeader(
  headers: IncomingHttpHeaders,
  name: string,
  min: number,
  max: number,
): number | null {
  const given = headers[name];
  if (given === undefined) return null;
  const value =
    typeof given === 'string' && /^[+-]?\d{1,15}$/.test(given.trim()) ? Number(given) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw new ServingError('BAD_REQUEST', `${name} must be an integer of ${min} … ${max}, got ${quote(given)}`);
}
