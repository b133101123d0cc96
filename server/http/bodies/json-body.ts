/**
 * JSON of a request's body, with a bound on its depth and its parts: JSON.parse takes any, but a message that quotes a value, and the frame that brings
 * a chat to its template's process, have a stack.
 *
 * In      text of a body, or of a form's field
 * Out     Fastify's own parser, which refuses an empty body and keys that would poison a prototype
 * Limits  MAX_JSON_DEPTH, MAX_JSON_PARTS
 * Errors  InvalidInput naming limit and depth
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { tooDeepOrMany } from '../../../proto/json-depth.js';
import { InvalidInput } from '../../requests/invalid-input.js';

type Done = (error: Error | null, body?: unknown) => void;

export function jsonBodyParser(
  app: FastifyInstance,
): (request: FastifyRequest, text: string, done: Done) => void {
  const parse = app.getDefaultJsonParser('error', 'error');
  return (request, text, done) => {
    const error = bodyTooDeep(text);
    if (error !== null) done(error);
    else parse(request, text, done);
  };
}

/** null: it is not. */
export function bodyTooDeep(text: string): InvalidInput | null {
  const nested = tooDeepOrMany(text);
  return nested === null ? null : new InvalidInput(`The request body is ${nested}`, null);
}
