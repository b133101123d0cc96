/**
 * Operating errors as Text Generation Inference says them: {"error", "error_type"}.
 *
 * In      an operating error
 * Out     status and body; what no status of its own fits has the table's
 * Source  Text Generation Inference's router: its four kinds of errors and their statuses
 */
import type { ErrorCode, ServingError } from '../../../../proto/errors.js';
import type { ErrorAnswer } from '../../errors.js';

const VALIDATION: readonly ErrorCode[] = ['BAD_REQUEST', 'PROMPT_TOO_LONG', 'TOKENIZER_LIMIT'];
const UNHEALTHY: readonly ErrorCode[] = ['MODEL_NOT_READY', 'NO_WORKERS', 'SHUTTING_DOWN'];
const GENERATION: readonly ErrorCode[] = ['WORKER_FAILED', 'STEP_TIMEOUT', 'HANDLER_FAILED'];

function kindOf(code: ErrorCode): { kind: string; status: number | null } {
  if (VALIDATION.includes(code)) return { kind: 'validation', status: 422 };
  if (code === 'QUEUE_FULL') return { kind: 'overloaded', status: 429 };
  if (UNHEALTHY.includes(code)) return { kind: 'healthcheck', status: 503 };
  if (GENERATION.includes(code)) return { kind: 'generation', status: 424 };
  return { kind: code.toLowerCase(), status: null };
}

export const tgiErrorBody = (error: ServingError) => ({
  error: error.code === 'BAD_REQUEST' ? `Input validation error: ${error.message}` : error.message,
  error_type: kindOf(error.code).kind,
});

export const tgiError = (error: ServingError): ErrorAnswer => ({
  status: kindOf(error.code).status ?? error.httpStatus,
  body: JSON.stringify(tgiErrorBody(error)),
});
