/**
 * Bodies of management: JSON is read, an empty one too (DELETE with a content type); any other body says nothing and is dropped.
 *
 * Errors  those of json-body.ts
 */
import type { FastifyInstance } from 'fastify';
import { jsonBodyParser } from './json-body.js';

export function addOptionalJsonParser(app: FastifyInstance): void {
  const parseJson = jsonBodyParser(app);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'string' }, (request, text, done) => {
    const type = request.headers['content-type']?.split(';')[0]?.trim().toLowerCase() ?? '';
    if (type !== 'application/json' || (text as string).trim() === '') done(null, undefined);
    else parseJson(request, text as string, done);
  });
}
