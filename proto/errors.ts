/**
 * Operating errors: what goes wrong in a correct program (bad input, a full queue, a dead worker, a timeout).
 *
 * One closed table: code → HTTP status, gRPC status, whether the same request may succeed later. A transport maps a code by
 * this table, or by its dialect's own override of it, and nowhere else. A message names the limit and the value given.
 * Bugs are not in this table: they are `assert` failures.
 *
 * Source  gRPC status numbers: grpc/grpc doc/statuscodes.md
 */

/** gRPC status codes that the table uses. */
export const GrpcStatus = {
  CANCELLED: 1,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

interface ErrorRow {
  readonly http: number;
  readonly grpc: number;
  readonly retryable: boolean;
  /** When it happens, for the table in the README. */
  readonly when: string;
}

const row = (http: number, grpc: number, retryable: boolean, when: string): ErrorRow => ({
  http,
  grpc,
  retryable,
  when,
});

export const ERROR_TABLE = {
  BAD_REQUEST: row(
    400,
    GrpcStatus.INVALID_ARGUMENT,
    false,
    'a body, field or parameter is malformed or out of its range',
  ),
  PROMPT_TOO_LONG: row(
    400,
    GrpcStatus.INVALID_ARGUMENT,
    false,
    'prompt and new tokens do not fit the context or the KV memory',
  ),
  NO_CHAT_TEMPLATE: row(
    400,
    GrpcStatus.FAILED_PRECONDITION,
    false,
    'chat asked of a checkpoint that has no chat template',
  ),
  CHAT_TEMPLATE_LIMIT: row(
    400,
    GrpcStatus.RESOURCE_EXHAUSTED,
    false,
    "the model's chat template takes more time, memory or text for these messages than it may",
  ),
  TOKENIZER_LIMIT: row(
    400,
    GrpcStatus.RESOURCE_EXHAUSTED,
    false,
    "the model's tokenizer takes more time or memory for this text than it may",
  ),
  UNAUTHENTICATED: row(
    401,
    GrpcStatus.UNAUTHENTICATED,
    false,
    'no key, or one that this server does not know',
  ),
  FORBIDDEN: row(
    403,
    GrpcStatus.PERMISSION_DENIED,
    false,
    'the key lacks the scope; or, without a key, another origin or host name asks',
  ),
  MODEL_NOT_FOUND: row(404, GrpcStatus.NOT_FOUND, false, 'no model of that name or version'),
  ALREADY_REGISTERED: row(
    409,
    GrpcStatus.ALREADY_EXISTS,
    false,
    'a model of that name and version is registered',
  ),
  NO_WORKERS: row(503, GrpcStatus.UNAVAILABLE, true, 'the model was scaled to no workers'),
  INVALID_TOKEN: row(400, GrpcStatus.INVALID_ARGUMENT, false, 'x-starting-token names no stored result'),
  ROUTE_NOT_FOUND: row(404, GrpcStatus.UNIMPLEMENTED, false, 'no such path'),
  METHOD_NOT_ALLOWED: row(405, GrpcStatus.UNIMPLEMENTED, false, 'the path exists, the method does not'),
  BODY_TOO_LARGE: row(413, GrpcStatus.RESOURCE_EXHAUSTED, false, 'the body is longer than max_request_size'),
  QUEUE_FULL: row(503, GrpcStatus.RESOURCE_EXHAUSTED, true, 'job_queue_size jobs already wait'),
  RATE_LIMITED: row(
    429,
    GrpcStatus.RESOURCE_EXHAUSTED,
    true,
    'the key has sent as many requests, or used as many tokens, as it may',
  ),
  MODEL_NOT_READY: row(
    503,
    GrpcStatus.UNAVAILABLE,
    true,
    'the model is loading, has failed, or its workers restart',
  ),
  SHUTTING_DOWN: row(503, GrpcStatus.UNAVAILABLE, true, 'the server or the model is being stopped'),
  REQUEST_TIMEOUT: row(
    408,
    GrpcStatus.DEADLINE_EXCEEDED,
    true,
    'the request waited or ran past its deadline',
  ),
  CANCELLED: row(499, GrpcStatus.CANCELLED, false, 'the client went away'),
  WORKER_FAILED: row(
    500,
    GrpcStatus.UNAVAILABLE,
    true,
    'a shard worker died or failed while the request ran',
  ),
  STEP_TIMEOUT: row(
    500,
    GrpcStatus.DEADLINE_EXCEEDED,
    true,
    'the ranks did not finish a step within its deadline',
  ),
  CONFIG_INVALID: row(400, GrpcStatus.FAILED_PRECONDITION, false, 'a configuration key or value is wrong'),
  CHECKPOINT_INVALID: row(
    400,
    GrpcStatus.FAILED_PRECONDITION,
    false,
    'a checkpoint file is damaged, lies, or is of an unknown kind',
  ),
  TENSOR_PARALLEL_INVALID: row(
    400,
    GrpcStatus.FAILED_PRECONDITION,
    false,
    'the model cannot be split over that many ranks',
  ),
  SHARDS_INVALID: row(500, GrpcStatus.DATA_LOSS, false, 'a shard on disk differs from its manifest'),
  OUT_OF_MEMORY: row(507, GrpcStatus.RESOURCE_EXHAUSTED, false, 'the model does not fit the memory there is'),
  UNSUPPORTED_PLATFORM: row(500, GrpcStatus.FAILED_PRECONDITION, false, 'not Linux x64/arm64 with glibc'),
  HANDLER_FAILED: row(
    500,
    GrpcStatus.INTERNAL,
    false,
    "a model's handler threw, or its answer is not what an answer may be",
  ),
  INTERNAL: row(500, GrpcStatus.INTERNAL, false, 'a bug: an assertion failed'),
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERROR_TABLE;

/** A message quotes what strangers have sent: it is cut, not refused. */
const MAX_MESSAGE = 8192;

/** Halves of characters, which cutting leaves and clients send, are no text: encoders throw where they meet one. */
export const wellFormed = (text: string): string => text.replace(/\p{Surrogate}/gu, '\ufffd');

/** An operating error. `message` is for the client; `cause` is for the log only. */
export class ServingError extends Error {
  override readonly name = 'ServingError';
  readonly code: ErrorCode;
  /** When the same request may succeed, as estimated; transports that can say it do (Retry-After). */
  readonly retryAfterSeconds?: number;
  /** Somebody outside has done it, a kill for example: no request is to blame. */
  readonly fromOutside: boolean;

  constructor(
    code: ErrorCode,
    message: string,
    options?: { cause?: unknown; retryAfterSeconds?: number; fromOutside?: boolean },
  ) {
    super(wellFormed(message.length > MAX_MESSAGE ? `${message.slice(0, MAX_MESSAGE)}…` : message), options);
    this.code = code;
    this.fromOutside = options?.fromOutside ?? false;
    if (options?.retryAfterSeconds !== undefined) this.retryAfterSeconds = options.retryAfterSeconds;
  }

  get httpStatus(): number {
    return ERROR_TABLE[this.code].http;
  }

  get grpcStatus(): number {
    return ERROR_TABLE[this.code].grpc;
  }

  get retryable(): boolean {
    return ERROR_TABLE[this.code].retryable;
  }

  /** An error that another process of this server told of. */
  static told({ code, message }: { code: string; message: string }): ServingError {
    return new ServingError(isErrorCode(code) ? code : 'INTERNAL', message);
  }

  /** The one converter: an operating error as it is, anything else as INTERNAL with the original as cause. */
  static from(error: unknown): ServingError {
    if (error instanceof ServingError) return error;
    return new ServingError('INTERNAL', 'Internal error, see the server log', { cause: error });
  }
}

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(ERROR_TABLE, text);
}

/** What DJLServing throws as a WlmException, of which WlmOutOfMemoryException is one: counted by its metrics and `/ping` limits. */
export const WLM_ERROR_CODES: readonly ErrorCode[] = [
  'QUEUE_FULL',
  'MODEL_NOT_READY',
  'NO_WORKERS',
  'SHUTTING_DOWN',
  'WORKER_FAILED',
  'STEP_TIMEOUT',
  'OUT_OF_MEMORY',
];
