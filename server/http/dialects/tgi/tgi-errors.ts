/**
<<<<<<< HEAD
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
=======
 * Operating errors as text-generation-inference says them: {"error", "error_type"}.
 *
 * Source  TGI's router: validation 422, overloaded 429, generation 424, incomplete_generation 500, unhealthy 503
 */
import type { ServingError } from '../../../../proto/errors.js';
import type { ErrorAnswer } from '../../errors.js';

type Kind = 'validation' | 'overloaded' | 'generation' | 'unhealthy';

const STATUS: Readonly<Record<Kind, number>> = {
  validation: 422,
  overloaded: 429,
  generation: 424,
  unhealthy: 503,
};

/** Statuses that say more than a kind does: nobody's clients take them for something else. */
const KEPT = [401, 403, 404, 405, 408, 413];

function kindOf({ code, httpStatus }: ServingError): Kind {
  if (code === 'QUEUE_FULL' || code === 'RATE_LIMITED') return 'overloaded';
  if (code === 'MODEL_NOT_READY' || code === 'SHUTTING_DOWN' || code === 'NO_WORKERS') return 'unhealthy';
  return httpStatus < 500 ? 'validation' : 'generation';
}

export const tgiErrorObject = (error: ServingError) => ({
  error: error.message,
  error_type: kindOf(error),
});

export function tgiError(error: ServingError): ErrorAnswer {
  const kind = kindOf(error);
  const status = kind === 'validation' && KEPT.includes(error.httpStatus) ? error.httpStatus : STATUS[kind];
  return { status, body: JSON.stringify(tgiErrorObject(error)) };
}
>>>>>>> da348dc (TGI's API: /generate, /generate_stream, /, /info; huggingface_hub's and text-generation's own clients beside the real engine)
