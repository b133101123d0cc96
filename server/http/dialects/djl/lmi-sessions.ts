/**
 * LMI's stateful sessions, as SageMaker's clients open and close them: on DJLServing's paths, of one model or of many.
 *
 * In      {"requestType": "NEW_SESSION" | "CLOSE"}; the header X-Amzn-SageMaker-Session-Id of whatever is asked in a session, or
 *         NEW_SESSION there, which opens one with its first request
 * Out     {"result": …} and SageMaker's headers. Requests of a session go to one version of a model (request-control.ts)
 * Limits  those of answers/sessions.ts; option.sessions_expiration
 * Errors  424 in LMI's form: a session that is none, was closed or has expired; sessions that the model's options forbid
 * Source  LMI's session_utils; SageMaker's invoke_endpoint (SessionId, NewSessionId, ClosedSessionId). Kept for a handler by the handler
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { idOf } from '../../../access/access-key.js';
import { InvalidInput } from '../../../requests/invalid-input.js';
import { SESSION_HEADER } from '../../../requests/request-control.js';
import type { ModelStatus } from '../../../requests/service.js';
import { type Checked, quote } from '../../../requests/validation.js';
import type { OpenedSession } from '../../answers/sessions.js';
import type { HttpContext } from '../../http-context.js';

const NEW = 'NEW_SESSION';
const REQUESTS = [NEW, 'CLOSE'] as const;
/** What makes a body another kind of request, whatever else is in it. */
const OTHER_KINDS = ['inputs', 'messages', 'prompt', 'input'];

export interface SessionBody {
  kind: 'session';
  requestType: (typeof REQUESTS)[number];
}

/** null: the body asks for something else. */
export function checkSessionBody(body: unknown): Checked<SessionBody> | null {
  if (typeof body !== 'object' || body === null || !Object.hasOwn(body, 'requestType')) return null;
  if (OTHER_KINDS.some((field) => Object.hasOwn(body, field))) return null;
  const given = (body as { requestType: unknown }).requestType;
  const requestType = REQUESTS.find((one) => one === given);
  if (requestType !== undefined) return { value: { kind: 'session', requestType } };
  return {
    error: new InvalidInput(
      `requestType must be one of ${REQUESTS.join(', ')}, got ${quote(given)}`,
      'requestType',
    ),
  };
}

/** Opens or closes one. @throws InvalidInput, as a body's; ServingError QUEUE_FULL */
export function answerSession(
  { sessions }: HttpContext,
  { accessKey, headers }: FastifyRequest,
  reply: FastifyReply,
  { requestType }: SessionBody,
  status: ModelStatus | undefined,
): FastifyReply {
  const seconds = secondsOf(status, requestType);
  const owner = accessKey && idOf(accessKey);
  if (requestType === NEW) {
    const opened = sessions.open(owner, seconds);
    return tellNew(reply, opened).send({ result: `Session ${opened.id} created` });
  }
  const id = String(headers[SESSION_HEADER] ?? '');
  if (!sessions.close(id, owner)) throw notOpen(id);
  return reply.header('X-Amzn-SageMaker-Closed-Session-Id', id).send({ result: `Session ${id} closed` });
}

/** Lets a request into the session that it names, if it names one. @throws as answerSession */
export function enterSession(
  { sessions }: HttpContext,
  { accessKey, headers }: FastifyRequest,
  reply: FastifyReply,
  status: ModelStatus | undefined,
): void {
  const given = headers[SESSION_HEADER];
  if (given === undefined) return;
  const seconds = secondsOf(status, 'the header X-Amzn-SageMaker-Session-Id');
  const owner = accessKey && idOf(accessKey);
  if (given === NEW) {
    const opened = sessions.open(owner, seconds);
    headers[SESSION_HEADER] = opened.id;
    tellNew(reply, opened);
  } else if (!sessions.isOpen(String(given), owner)) throw notOpen(String(given));
}

function tellNew(reply: FastifyReply, { expiresAtMs, id }: OpenedSession): FastifyReply {
  const expires = `${new Date(expiresAtMs).toISOString().slice(0, 19)}Z`;
  return reply.header('X-Amzn-SageMaker-Session-Id', `${id}; Expires=${expires}`);
}

function secondsOf(status: ModelStatus | undefined, what: string): number {
  const seconds = status?.sessionSeconds ?? null;
  if (seconds !== null) return seconds;
  throw refusal(
    `stateful sessions are not enabled (option.enable_stateful_sessions): ${what} is not supported`,
  );
}

const notOpen = (id: string): InvalidInput =>
  refusal(
    `invalid session_id: ${quote(id)} is no open session: it was never opened, was closed, or has expired`,
  );

const refusal = (sentence: string): InvalidInput =>
  Object.assign(new InvalidInput(sentence, 'requestType'), { validationContext: 'body' });
