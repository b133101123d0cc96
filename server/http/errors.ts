/**
 * Whatever a hook, parser, validator or handler threw, as an operating error; each dialect has its own table of words and statuses.
 *
 * In      anything thrown
 * Out     a ServingError
 * Errors  none; what is not an operating error becomes INTERNAL, its cause is for the log only
 */
import type { FastifyReply } from 'fastify';
import { ServingError } from '../../proto/errors.js';
import { InvalidInput } from '../requests/invalid-input.js';

export interface ErrorAnswer {
  status: number;
  body: string;
}

/** Gson's pretty printing: what DJLServing's own bodies look like. */
export function prettyJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** @param otherwise seconds where the error estimates none; null: no header then */
export function addRetryAfter(reply: FastifyReply, error: ServingError, otherwise: number | null): void {
  const seconds = error.retryAfterSeconds ?? otherwise;
  if (seconds !== null) reply.header('retry-after', String(Math.max(1, Math.ceil(seconds))));
}

/**
 * The one converter for what reaches an error handler: Fastify's own refusals by their code, the rest by ServingError.from.
 *
 * @param maxRequestBytes for the sentence about a body that is too large
 * @param routeBytes the route's own limit, where it has one
 */
export function toServingError(
  error: unknown,
  maxRequestBytes: number,
  routeBytes = maxRequestBytes,
): ServingError {
  if (error instanceof ServingError) return error;
  const { code, statusCode, message } = error as { code?: unknown; statusCode?: unknown; message?: unknown };
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
    return new ServingError(
      'BODY_TOO_LARGE',
      routeBytes < maxRequestBytes
        ? `The request body is longer than ${routeBytes} bytes, the limit of this path`
        : `The request body is longer than max_request_size, which is ${maxRequestBytes} bytes`,
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

/** DJLServing's sentences name the document, and not where it is. */
const WHERE = 'It is at / (for programs: /openapi.json).';

export function routeNotFound(): ServingError {
  return new ServingError(
    'ROUTE_NOT_FOUND',
    `Requested resource is not found, please refer to API document. ${WHERE}`,
  );
}

export function methodNotAllowed(): ServingError {
  return new ServingError(
    'METHOD_NOT_ALLOWED',
    `Requested method is not allowed, please refer to API document. ${WHERE}`,
  );
}
