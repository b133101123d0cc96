/**
 * JSON of a request's body, with a bound on its depth: JSON.parse takes any, but a message that quotes a value, and the frame that brings
 * a chat to its template's process, have a stack.
 *
 * In      text of a body, or of a form's field
 * Out     Fastify's own parser, which refuses an empty body and keys that would poison a prototype
 * Limits  MAX_JSON_DEPTH
 * Errors  InvalidInput naming limit and depth
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { jsonDepth, MAX_JSON_DEPTH } from '../../proto/json-depth.js';
import { InvalidInput } from './errors.js';

type Done = (error: Error | null, body?: unknown) => void;

export function jsonBodyParser(
  app: FastifyInstance,
): (request: FastifyRequest, text: string, done: Done) => void {
  const parse = app.getDefaultJsonParser('error', 'error');
  return (request, text, done) => {
    const error = tooDeep(text);
    if (error !== null) done(error);
    else parse(request, text, done);
  };
}

/** null: it is not. */
export function tooDeep(text: string): InvalidInput | null {
  const depth = jsonDepth(text);
  if (depth <= MAX_JSON_DEPTH) return null;
  return new InvalidInput(`The request body is nested ${depth} deep, the limit is ${MAX_JSON_DEPTH}`, null);
}
