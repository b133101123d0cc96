/**
 * Operating errors as TorchServe says them: {"code", "type", "message"}, by one table, closed over ErrorCode by its type.
 *
 * In      an operating error; a refusal that knows its own exception
 * Out     status and body
 * Source  TorchServe: the simple names of its exceptions and their statuses; a wrong token is a 400 there
 */
import { type ErrorCode, ServingError } from '../../../../proto/errors.js';
import { type ErrorAnswer, prettyJson } from '../../errors.js';

interface TorchServeRow {
  readonly type: string;
  readonly status: number;
  /** Said instead of the error's own sentence. */
  readonly message?: string;
}

const row = (type: string, status: number, message?: string): TorchServeRow => ({
  ...{ type, status },
  ...(message !== undefined && { message }),
});

const NO_TOKEN = 'Token Authorization failed. Token either incorrect, expired, or not provided correctly';

const TORCHSERVE_TABLE: Record<ErrorCode, TorchServeRow> = {
  BAD_REQUEST: row('BadRequestException', 400),
  PROMPT_TOO_LONG: row('BadRequestException', 400),
  NO_CHAT_TEMPLATE: row('BadRequestException', 400),
  CHAT_TEMPLATE_LIMIT: row('BadRequestException', 400),
  TOKENIZER_LIMIT: row('BadRequestException', 400),
  UNAUTHENTICATED: row('InvalidKeyException', 400, NO_TOKEN),
  FORBIDDEN: row('InvalidKeyException', 400),
  MODEL_NOT_FOUND: row('ModelNotFoundException', 404),
  ALREADY_REGISTERED: row('ConflictStatusException', 409),
  NO_WORKERS: row('ServiceUnavailableException', 503),
  INVALID_TOKEN: row('BadRequestException', 400),
  ROUTE_NOT_FOUND: row(
    'ResourceNotFoundException',
    404,
    'Requested resource is not found, please refer to API document.',
  ),
  METHOD_NOT_ALLOWED: row(
    'MethodNotAllowedException',
    405,
    'Requested method is not allowed, please refer to API document.',
  ),
  BODY_TOO_LARGE: row('TooLongFrameException', 413),
  QUEUE_FULL: row('ServiceUnavailableException', 503),
  RATE_LIMITED: row('ServiceUnavailableException', 429),
  MODEL_NOT_READY: row('ServiceUnavailableException', 503),
  SHUTTING_DOWN: row('ServiceUnavailableException', 503),
  REQUEST_TIMEOUT: row('RequestTimeoutException', 408),
  CANCELLED: row('InternalServerException', 499),
  WORKER_FAILED: row('InternalServerException', 500, 'Worker died.'),
  STEP_TIMEOUT: row('InternalServerException', 500, 'Worker died.'),
  CONFIG_INVALID: row('BadRequestException', 400),
  CHECKPOINT_INVALID: row('InvalidModelException', 400),
  TENSOR_PARALLEL_INVALID: row('InvalidModelException', 400),
  SHARDS_INVALID: row('InternalServerException', 500),
  OUT_OF_MEMORY: row('OutOfMemoryError', 507),
  UNSUPPORTED_PLATFORM: row('InternalServerException', 500),
  HANDLER_FAILED: row('InternalServerException', 503),
  INTERNAL: row('InternalServerException', 500),
};

/** What a handler's wrong answers begin with, in TorchServe's words; anything else is this. */
const HANDLER_SENTENCES = ['Invalid model predict output', 'number of batch response mismatched'];
const PREDICTION_FAILED = 'Prediction failed';

/** A refusal whose exception and status follow from the path, not from its code. */
export class TorchServeRefusal extends ServingError {
  readonly exception: string;
  readonly status: number;

  constructor(code: ErrorCode, exception: string, status: number, message: string, cause?: unknown) {
    super(code, message, cause === undefined ? {} : { cause });
    this.exception = exception;
    this.status = status;
  }
}

/** The status alone, for whoever tells it in another way. */
export function torchServeStatus(error: ServingError): number {
  return error instanceof TorchServeRefusal ? error.status : TORCHSERVE_TABLE[error.code].status;
}

export function torchServeMessage(error: ServingError): string {
  if (error instanceof TorchServeRefusal) return error.message;
  // A token of the other kind.
  if (error.code === 'FORBIDDEN' && error.message.startsWith('The key ')) return NO_TOKEN;
  if (error.code === 'HANDLER_FAILED')
    return HANDLER_SENTENCES.find((sentence) => error.message.startsWith(sentence)) ?? PREDICTION_FAILED;
  return TORCHSERVE_TABLE[error.code].message ?? error.message;
}

export function torchServeError(error: ServingError): ErrorAnswer {
  const status = torchServeStatus(error);
  const type = error instanceof TorchServeRefusal ? error.exception : TORCHSERVE_TABLE[error.code].type;
  return { status, body: prettyJson({ code: status, type, message: torchServeMessage(error) }) };
}

export const modelNotFound = (name: string): ServingError =>
  new TorchServeRefusal('MODEL_NOT_FOUND', 'ModelNotFoundException', 404, `Model not found: ${name}`);

export const versionNotFound = (name: string, version: string): ServingError =>
  new TorchServeRefusal(
    'MODEL_NOT_FOUND',
    'ModelVersionNotFoundException',
    404,
    `Model version: ${version} does not exist for model: ${name}`,
  );
