/**
 * Parameters of DJLServing's management API → RegisterRequest, ScaleRequest, a page.
 *
 * In      query parameters (text) or fields of a JSON body (numbers and booleans, or text, as scripts send them)
 * Out     plain requests; −1 means "as configured" or "unchanged" and leaves its field out
 * Limits  the ranges below; names and versions must fit a path
 * Errors  BAD_REQUEST in DJLServing's words where it has some
 * Source  DJLServing 0.36: ManagementRequestHandler, LoadModelRequest
 */
import { type Static, type TObject, Type } from '@sinclair/typebox';
import { ServingError } from '../../../../proto/errors.js';
import { MAX_SLOTS } from '../../../../proto/limits.js';
import { InvalidInput } from '../../../requests/invalid-input.js';
import type { RegisterRequest, ScaleRequest } from '../../../requests/management.js';
import { type Checked, compileValidator } from '../../../requests/validation.js';

const MAX_URL_CHARACTERS = 4096;
const MAX_GROUPS = 64;
const MAX_QUEUE = 1_000_000;
const MAX_DELAY_MS = 600_000;
const MAX_IDLE_SECONDS = 86_400;
/** DJLServing's largest page, and its default. */
const MAX_PAGE = 100;
const MAX_PAGE_TOKEN = 1_000_000_000;
const MAX_WEIGHT = 1_000_000;
const UNSET = -1;

const optional = Type.Optional;
const text = (maxLength: number) => optional(Type.String({ minLength: 1, maxLength }));
const integer = (maximum: number, minimum = UNSET) => optional(Type.Integer({ minimum, maximum }));
const name = optional(
  Type.String({
    pattern: '^[A-Za-z0-9_.-]{1,128}$',
    expects: 'a name of 1 … 128 letters, digits, _, . and -',
  }),
);
// GET /models/{name}/invoke and …/ready are other things than a version.
const version = optional(
  Type.String({
    pattern: '^(?!(?:invoke|ready|adapters)$)[^\\s/?#%\\u0000-\\u001f\\u007f-\\u009f]{1,128}$',
    expects: 'a version of 1 … 128 characters that may stand in a path, not invoke, ready or adapters',
  }),
);

export const RegisterParameters = Type.Object({
  url: text(MAX_URL_CHARACTERS),
  model_name: name,
  model_version: version,
  engine: text(64),
  device: text(256),
  job_queue_size: integer(MAX_QUEUE),
  batch_size: integer(MAX_SLOTS),
  max_batch_delay: integer(MAX_DELAY_MS),
  max_idle_time: integer(MAX_IDLE_SECONDS),
  min_worker: integer(MAX_GROUPS),
  max_worker: integer(MAX_GROUPS),
  synchronous: optional(Type.Boolean()),
  weight: integer(MAX_WEIGHT, 0),
});

export const ScaleParameters = Type.Object({
  min_worker: integer(MAX_GROUPS),
  max_worker: integer(MAX_GROUPS),
  device: text(256),
  synchronous: optional(Type.Boolean()),
  retry: optional(Type.Boolean()),
  weight: integer(MAX_WEIGHT, 0),
});

export const WorkflowParameters = Type.Object({
  url: text(MAX_URL_CHARACTERS),
  workflow_name: name,
  synchronous: optional(Type.Boolean()),
});

/** @throws ServingError BAD_REQUEST */
export function workflowRequest({
  synchronous = true,
  url,
  workflow_name,
}: Static<typeof WorkflowParameters>): {
  url: string;
  name: string | undefined;
  synchronous: boolean;
} {
  if (url === undefined)
    throw new ServingError('BAD_REQUEST', 'Either parameter url or template is required.');
  return { url, name: workflow_name, synchronous };
}

export const PageParameters = Type.Object({
  limit: optional(Type.Integer()),
  next_page_token: integer(MAX_PAGE_TOKEN, -MAX_PAGE_TOKEN),
});

export const LoggingParameters = Type.Object({
  level: optional(
    Type.Union(
      ['fatal', 'error', 'warn', 'info', 'debug', 'trace'].map((level) => Type.Literal(level)),
      { expects: 'fatal, error, warn, info, debug or trace' },
    ),
  ),
});

export interface AskedRegistration {
  request: RegisterRequest;
  synchronous: boolean;
}

/** @throws ServingError BAD_REQUEST */
export function registerRequest(given: Static<typeof RegisterParameters>): AskedRegistration {
  if (given.url === undefined) throw new ServingError('BAD_REQUEST', 'Parameter url is required.');
  refuseZero(given, ['job_queue_size', 'batch_size']);
  const groups = groupBounds(given);
  return {
    synchronous: given.synchronous ?? true,
    request: {
      url: given.url,
      version: given.model_version ?? null,
      ...whenGiven('name', given.model_name),
      ...whenGiven('engine', given.engine),
      ...whenGiven('device', given.device),
      ...whenGiven('jobQueueSize', set(given.job_queue_size)),
      ...whenGiven('batchSize', set(given.batch_size)),
      ...whenGiven('maxBatchDelayMs', set(given.max_batch_delay)),
      ...whenGiven('maxIdleSeconds', set(given.max_idle_time)),
      ...whenGiven('weight', given.weight),
      ...groups,
    },
  };
}

/** @throws ServingError BAD_REQUEST */
export function scaleRequest(given: Static<typeof ScaleParameters>): ScaleRequest {
  return { ...groupBounds(given), ...whenGiven('device', given.device) };
}

/** One page of a list, and the token of what follows it: the index of the next item. */
export function pageOf<T>(
  all: readonly T[],
  { limit = MAX_PAGE, next_page_token: token = 0 }: Static<typeof PageParameters>,
): { items: readonly T[]; next: number } {
  // DJLServing's rule; a page of none would never end.
  const size = limit > MAX_PAGE || limit <= 0 ? MAX_PAGE : limit;
  const start = Math.max(0, token);
  return { items: all.slice(start, start + size), next: start + size };
}

/** Texts that stand for numbers or booleans where the schema wants these, then the schema. Nothing at all is no parameter. */
export function parameterValidator<S extends TObject>(schema: S): (given: unknown) => Checked<Static<S>> {
  const validator = compileValidator(schema);
  const typeOf = (field: string): unknown => schema.properties[field]?.type;
  return (given) => {
    if (given !== undefined && given !== null && (typeof given !== 'object' || Array.isArray(given))) {
      return { error: new InvalidInput('The request body must be an object of parameters', null) };
    }
    const converted = Object.entries(given ?? {}).map(([field, value]: [string, unknown]) => [
      field,
      typeof value === 'string' ? convert(value.trim(), typeOf(field)) : value,
    ]);
    const result = validator.check(Object.fromEntries(converted));
    if ('value' in result) return result;
    const { param, message } = result.error;
    if (param === null || typeOf(param) !== 'integer') return result;
    return { error: new InvalidInput(`parameter is invalid number. ${message}`, param) };
  };
}

function convert(value: string, type: unknown): unknown {
  if (type === 'integer' && /^[+-]?\d{1,12}$/.test(value)) return Number(value);
  if (type === 'boolean' && /^(?:true|false)$/i.test(value)) return value.toLowerCase() === 'true';
  return value;
}

function groupBounds(given: { min_worker?: number; max_worker?: number }) {
  // min above max is the manager's to settle, as in DJLServing: the smaller of them.
  return {
    ...whenGiven('minGroups', set(given.min_worker)),
    ...whenGiven('maxGroups', set(given.max_worker)),
  };
}

/** −1 or a count: 0 of these would never serve a request. */
function refuseZero(given: Record<string, unknown>, names: readonly string[]): void {
  for (const field of names) {
    if (given[field] === 0) {
      throw new InvalidInput(
        `parameter is invalid number. ${field} must be -1 or an integer of at least 1, got 0`,
        field,
      );
    }
  }
}

const set = (value: number | undefined): number | undefined => (value === UNSET ? undefined : value);

function whenGiven<K extends string, V>(field: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined ? {} : ({ [field]: value } as { [P in K]?: V });
}
