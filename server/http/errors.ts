/**
 * Operating errors as each dialect says them: one table a dialect, closed over ErrorCode by its type.
 *
 * In      whatever a hook, parser, validator or handler threw
 * Out     status and body: DJLServing's {code, type, message}, LMI's {code, error} for a body that is not valid, OpenAI's {error: {…}}
 * Errors  none; what is not an operating error becomes INTERNAL, its cause is for the log only
 * Source  reference serving-apis §1.3 (status codes, exception names, configurable codes), §3.1 (424); OpenAI API reference
 */
import type { FastifyReply } from 'fastify';
import { type ErrorCode, ServingError } from '../../proto/errors.js';
import type { ServerConfig } from '../config/config.js';

/** A value of a request that breaks its schema. */
export class InvalidInput extends ServingError {
  /** Name of the field, as the client wrote it; null: the body as a whole. */
  readonly param: string | null;

  constructor(message: string, param: string | null) {
    super('BAD_REQUEST', message);
    this.param = param;
  }
}

/** Keys of ServerConfig that move a status. */
export type StatusKey =
  | 'badRequestHttpCode'
  | 'wlmErrorHttpCode'
  | 'throttleErrorHttpCode'
  | 'serverErrorHttpCode';

interface DjlRow {
  readonly type: string;
  readonly status: number | StatusKey;
}

const djl = (type: string, status: number | StatusKey): DjlRow => ({ type, status });

/** DJLServing: simple name of its exception, and its status. */
const DJL_TABLE: Record<ErrorCode, DjlRow> = {
  BAD_REQUEST: djl('BadRequestException', 'badRequestHttpCode'),
  PROMPT_TOO_LONG: djl('TranslateException', 'badRequestHttpCode'),
  NO_CHAT_TEMPLATE: djl('TranslateException', 'badRequestHttpCode'),
  CHAT_TEMPLATE_LIMIT: djl('TranslateException', 'badRequestHttpCode'),
  TOKENIZER_LIMIT: djl('TranslateException', 'badRequestHttpCode'),
  UNAUTHENTICATED: djl('UnauthorizedException', 401),
  FORBIDDEN: djl('ForbiddenException', 403),
  MODEL_NOT_FOUND: djl('ModelNotFoundException', 404),
  ALREADY_REGISTERED: djl('BadRequestException', 409),
  NO_WORKERS: djl('WlmShutdownException', 'wlmErrorHttpCode'),
  INVALID_TOKEN: djl('BadRequestException', 'badRequestHttpCode'),
  ROUTE_NOT_FOUND: djl('ResourceNotFoundException', 404),
  METHOD_NOT_ALLOWED: djl('MethodNotAllowedException', 405),
  BODY_TOO_LARGE: djl('TooLongFrameException', 413),
  QUEUE_FULL: djl('WlmCapacityException', 'throttleErrorHttpCode'),
  MODEL_NOT_READY: djl('WlmException', 'wlmErrorHttpCode'),
  SHUTTING_DOWN: djl('WlmShutdownException', 'wlmErrorHttpCode'),
  REQUEST_TIMEOUT: djl('TranslateException', 'badRequestHttpCode'),
  CANCELLED: djl('TranslateException', 499),
  WORKER_FAILED: djl('WlmException', 'wlmErrorHttpCode'),
  STEP_TIMEOUT: djl('WlmException', 'wlmErrorHttpCode'),
  CONFIG_INVALID: djl('IllegalConfigurationException', 400),
  CHECKPOINT_INVALID: djl('MalformedModelException', 400),
  TENSOR_PARALLEL_INVALID: djl('IllegalConfigurationException', 400),
  SHARDS_INVALID: djl('MalformedModelException', 'serverErrorHttpCode'),
  OUT_OF_MEMORY: djl('WlmOutOfMemoryException', 507),
  UNSUPPORTED_PLATFORM: djl('EngineException', 'serverErrorHttpCode'),
  INTERNAL: djl('InternalServerException', 'serverErrorHttpCode'),
};

interface OpenAiRow {
  readonly status: number;
  readonly type: string;
  readonly code: string | null;
}

const openAi = (status: number, type: string, code: string | null): OpenAiRow => ({ status, type, code });

/** OpenAI: status, kind and code. Clients retry 429 and 5xx by themselves. */
const OPENAI_TABLE: Record<ErrorCode, OpenAiRow> = {
  BAD_REQUEST: openAi(400, 'invalid_request_error', null),
  PROMPT_TOO_LONG: openAi(400, 'invalid_request_error', 'context_length_exceeded'),
  NO_CHAT_TEMPLATE: openAi(400, 'invalid_request_error', 'no_chat_template'),
  CHAT_TEMPLATE_LIMIT: openAi(400, 'invalid_request_error', 'chat_template_limit'),
  TOKENIZER_LIMIT: openAi(400, 'invalid_request_error', 'tokenizer_limit'),
  UNAUTHENTICATED: openAi(401, 'invalid_request_error', 'invalid_api_key'),
  FORBIDDEN: openAi(403, 'invalid_request_error', 'permission_denied'),
  MODEL_NOT_FOUND: openAi(404, 'invalid_request_error', 'model_not_found'),
  ALREADY_REGISTERED: openAi(409, 'invalid_request_error', 'already_registered'),
  NO_WORKERS: openAi(503, 'server_error', 'no_workers'),
  INVALID_TOKEN: openAi(400, 'invalid_request_error', 'invalid_token'),
  ROUTE_NOT_FOUND: openAi(404, 'invalid_request_error', 'unknown_url'),
  METHOD_NOT_ALLOWED: openAi(405, 'invalid_request_error', 'method_not_supported'),
  BODY_TOO_LARGE: openAi(413, 'invalid_request_error', 'request_too_large'),
  QUEUE_FULL: openAi(429, 'rate_limit_error', 'queue_full'),
  MODEL_NOT_READY: openAi(503, 'server_error', 'model_not_ready'),
  SHUTTING_DOWN: openAi(503, 'server_error', 'shutting_down'),
  REQUEST_TIMEOUT: openAi(408, 'server_error', 'timeout'),
  CANCELLED: openAi(499, 'invalid_request_error', 'cancelled'),
  WORKER_FAILED: openAi(500, 'server_error', 'worker_failed'),
  STEP_TIMEOUT: openAi(500, 'server_error', 'step_timeout'),
  CONFIG_INVALID: openAi(400, 'invalid_request_error', 'config_invalid'),
  CHECKPOINT_INVALID: openAi(400, 'invalid_request_error', 'checkpoint_invalid'),
  TENSOR_PARALLEL_INVALID: openAi(400, 'invalid_request_error', 'tensor_parallel_invalid'),
  SHARDS_INVALID: openAi(500, 'server_error', 'shards_invalid'),
  OUT_OF_MEMORY: openAi(507, 'server_error', 'out_of_memory'),
  UNSUPPORTED_PLATFORM: openAi(500, 'server_error', 'unsupported_platform'),
  INTERNAL: openAi(500, 'server_error', 'internal_error'),
};

/** LMI answers a body that is not valid with this status. */
export const LMI_INPUT_STATUS = 424;

export interface ErrorAnswer {
  status: number;
  body: string;
}

/** Gson's pretty printing: what DJLServing's own bodies look like. */
export function prettyJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

export function djlError(error: ServingError, config: Pick<ServerConfig, StatusKey>): ErrorAnswer {
  const row = DJL_TABLE[error.code];
  return djlErrorWith(error, typeof row.status === 'number' ? row.status : config[row.status]);
}

/** With a status, and perhaps an exception, that the path decides. */
export function djlErrorWith(
  error: ServingError,
  status: number,
  type: string = DJL_TABLE[error.code].type,
): ErrorAnswer {
  return { status, body: prettyJson({ code: status, type, message: error.message }) };
}

/** @param otherwise seconds where the error estimates none; null: no header then */
export function addRetryAfter(reply: FastifyReply, error: ServingError, otherwise: number | null): void {
  const seconds = error.retryAfterSeconds ?? otherwise;
  if (seconds !== null) reply.header('retry-after', String(Math.max(1, Math.ceil(seconds))));
}

/** A prediction's body that is valid JSON but not a valid request. */
export function lmiInputError(error: InvalidInput): ErrorAnswer {
  const sentence = `Input Parsing failed. Ensure that the request payload is valid. ${error.message}`;
  return { status: LMI_INPUT_STATUS, body: JSON.stringify({ code: LMI_INPUT_STATUS, error: sentence }) };
}

export function openAiErrorObject(error: ServingError) {
  const { type, code } = OPENAI_TABLE[error.code];
  const param = error instanceof InvalidInput ? error.param : null;
  return { error: { message: error.message, type, param, code } };
}

export function openAiError(error: ServingError): ErrorAnswer {
  return { status: OPENAI_TABLE[error.code].status, body: JSON.stringify(openAiErrorObject(error)) };
}

/**
 * The one converter for what reaches an error handler: Fastify's own refusals by their code, the rest by ServingError.from.
 *
 * @param maxRequestBytes for the sentence about a body that is too large
 */
export function toServingError(error: unknown, maxRequestBytes: number): ServingError {
  if (error instanceof ServingError) return error;
  const { code, statusCode, message } = error as { code?: unknown; statusCode?: unknown; message?: unknown };
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
    return new ServingError(
      'BODY_TOO_LARGE',
      `The request body is longer than max_request_size, which is ${maxRequestBytes} bytes`,
    );
  }
  if (code === 'FST_ERR_CTP_EMPTY_JSON_BODY') return new InvalidInput('The request body is empty', null);
  if (code === 'FST_ERR_CTP_INVALID_CONTENT_LENGTH') {
    return new InvalidInput('The request body is not as long as its content-length says', null);
  }
  if (error instanceof SyntaxError)
    return new InvalidInput(`The request body is not JSON: ${error.message}`, null);
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    return new InvalidInput(typeof message === 'string' ? message : 'The request is malformed', null);
  }
  return ServingError.from(error);
}

export function routeNotFound(): ServingError {
  return new ServingError(
    'ROUTE_NOT_FOUND',
    'Requested resource is not found, please refer to API document.',
  );
}

export function methodNotAllowed(): ServingError {
  return new ServingError(
    'METHOD_NOT_ALLOWED',
    'Requested method is not allowed, please refer to API document.',
  );
}
