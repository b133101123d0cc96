/**
 * What a dialect's routes answer where something was thrown: one way for all, in each one's words.
 *
 * In      the app of the dialect's routes, how it tells an error
 * Out     the response; a bug is logged with its cause
 * Errors  none
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { ServingError } from '../../proto/errors.js';
import { addRetryAfter, type ErrorAnswer, toServingError } from './errors.js';
import type { HttpContext } from './http-context.js';

export interface ErrorWords {
  tell(error: ServingError, thrown: unknown, request: FastifyRequest): ErrorAnswer;
  /** Counted for /ping's limits, as inference is; default: yes. */
  counted?: boolean;
  /** Told with a full queue and the like, where clients try again by themselves and the error estimates no time; absent: no header then. */
  retryAfterSeconds?: number;
}

export function setErrorWords(
  app: FastifyInstance,
  { config, countError }: Pick<HttpContext, 'config' | 'countError'>,
  { counted = true, retryAfterSeconds, tell }: ErrorWords,
): void {
  app.setErrorHandler((thrown, request, reply) => {
    const error = toServingError(thrown, config.maxRequestBytes, request.routeOptions.bodyLimit);
    if (error.code === 'INTERNAL') request.log.error({ err: thrown }, 'a request failed');
    const { body, status } = tell(error, thrown, request);
    if (counted) countError(error, status);
    const isRetried = error.retryable && (status === 429 || status === 503);
    addRetryAfter(reply, error, isRetried ? (retryAfterSeconds ?? null) : null);
    return reply.code(status).type('application/json').send(body);
  });
}
