/**
 * Operating errors as OpenAI's API says them: one table, closed over ErrorCode by its type.
 *
 * In      an operating error
 * Out     status and body: {error: {message, type, param, code}}
 * Source  OpenAI API reference
 */
import type { ErrorCode, ServingError } from '../../../../proto/errors.js';
import { InvalidInput } from '../../../requests/invalid-input.js';
import type { ErrorAnswer } from '../../errors.js';

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
  RATE_LIMITED: openAi(429, 'rate_limit_error', 'rate_limit_exceeded'),
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
  HANDLER_FAILED: openAi(500, 'server_error', 'handler_failed'),
  INTERNAL: openAi(500, 'server_error', 'internal_error'),
};

export function openAiErrorObject(error: ServingError) {
  const { type, code } = OPENAI_TABLE[error.code];
  const param = error instanceof InvalidInput ? error.param : null;
  return { error: { message: error.message, type, param, code } };
}

export function openAiError(error: ServingError): ErrorAnswer {
  return { status: OPENAI_TABLE[error.code].status, body: JSON.stringify(openAiErrorObject(error)) };
}
