/**
 * How a prediction's body begins to be read, whoever's path it came by: whole, then by who is to make something of it.
 *
 * In      bytes and their content type; whether the model reads its bodies by itself
 * Out     ContentBody for such a model, NumpyBody for NumPy's types; all else is the dialect's to read
 * Limits  the body limit of the server; form-fields.ts
 * Errors  InvalidInput: not a form, though its type says so; the dialect's
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { formPartsOf } from './form-fields.js';
import { ContentBody, NumpyBody } from './model-bodies.js';

type Done = (error: Error | null, body?: unknown) => void;

export interface PlainBody {
  bytes: Buffer;
  /** As given. */
  contentType: string;
  /** Without parameters, in lower case; '': none was given. */
  type: string;
}

export interface BodyReaders {
  isContent: (request: FastifyRequest) => boolean;
  plain: (request: FastifyRequest, body: PlainBody, done: Done) => void;
}

/** In place of all parsers that are there. */
export function addBodyReader(app: FastifyInstance, { isContent, plain }: BodyReaders): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (request, payload, done) => {
    const bytes = payload as Buffer;
    const contentType = request.headers['content-type'] ?? '';
    if (isContent(request)) {
      contentOfBody(bytes, contentType).then((body) => done(null, body), done);
      return;
    }
    const type = typeOf(contentType);
    const numpy = NumpyBody.of(type, bytes, app.initialConfig.bodyLimit ?? bytes.length);
    if (numpy !== null) done(null, numpy);
    else plain(request, { bytes, contentType, type }, done);
  });
}

/** @throws InvalidInput: not a form, though its type says so */
async function contentOfBody(bytes: Buffer, contentType: string): Promise<ContentBody> {
  const type = typeOf(contentType);
  if (type !== 'multipart/form-data' && type !== 'application/x-www-form-urlencoded')
    return new ContentBody([{ key: '', bytes, contentType: type === '' ? null : type }]);
  const parts = await formPartsOf(bytes, contentType);
  return new ContentBody(
    // A field of a form is text unless it says otherwise.
    [...parts].map(([key, part]) => ({
      key,
      bytes: part.bytes,
      contentType: part.contentType ?? 'text/plain',
    })),
  );
}

const typeOf = (contentType: string): string => contentType.split(';')[0]!.trim().toLowerCase();
