/**
 * Operating errors as DJLServing says them: one table, closed over ErrorCode by its type.
 *
 * In      an operating error; the configured status codes
 * Out     status and body: {code, type, message}; LMI's {code, error} for a body that is not valid
 * Source  DJLServing: the simple names of its exceptions, their statuses, its four configurable codes; LMI answers unreadable input with 424
 */
import type { ErrorCode, ServingError } from '../../../../proto/errors.js';
import type { ServerConfig } from '../../../config/config.js';
import type { InvalidInput } from '../../../requests/invalid-input.js';
import { type ErrorAnswer, prettyJson } from '../../errors.js';

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

/** LMI answers a body that is not valid with this status, and what its handler throws. */
export const LMI_INPUT_STATUS = 424;

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
  RATE_LIMITED: djl('WlmCapacityException', 429),
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
  HANDLER_FAILED: djl('TranslateException', LMI_INPUT_STATUS),
  INTERNAL: djl('InternalServerException', 'serverErrorHttpCode'),
};

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
  if (error.code === 'HANDLER_FAILED') return handlerError(error);
  return { status, body: prettyJson({ code: status, type, message: error.message }) };
}

/** DJLServing's Python engine says so whatever its handler threw. */
function handlerError({ message }: ServingError): ErrorAnswer {
  const body = { code: LMI_INPUT_STATUS, message: 'invoke handler failure', error: message };
  return { status: LMI_INPUT_STATUS, body: JSON.stringify(body) };
}

/** A prediction's body that is valid JSON but not a valid request. */
export function lmiInputError(error: InvalidInput): ErrorAnswer {
  const sentence = `Input Parsing failed. Ensure that the request payload is valid. ${error.message}`;
  return { status: LMI_INPUT_STATUS, body: JSON.stringify({ code: LMI_INPUT_STATUS, error: sentence }) };
}
