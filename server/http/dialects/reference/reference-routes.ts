/**
 * The reference of every route that the server speaks: a page at `/`, the same for programs at `/openapi.json`.
 *
 * In      what the dialects say of their routes; the name of a model that is loaded, for the examples
 * Out     HTML; an OpenAPI 3.1 document, whose schemas are those that requests are checked by
 * Errors  none of its own
 */
import type { FastifyInstance } from 'fastify';
import type { Dialect } from '../../dialect.js';
import type { HttpContext } from '../../http-context.js';
import { openApiOf } from './openapi.js';
import { referencePage } from './reference-page.js';

export const REFERENCE_PATH = '/';
export const OPENAPI_PATH = '/openapi.json';
/** In the examples, where no model is loaded. */
const ANY_MODEL = 'MODEL';

/** @param dialects whose routes it lists */
export const referenceDialect = (dialects: readonly Dialect[]): Dialect => ({
  name: 'reference',
  roles: ['inference', 'management'],
  // It tells nothing that is not in the documentation.
  access: 'open',
  refusesMethods: false,
  routes: async (app: FastifyInstance, { service }: HttpContext) => {
    const model = (): string => service.models()[0]?.name ?? ANY_MODEL;
    app.get(REFERENCE_PATH, async ({ headers: { host } }, reply) =>
      reply.type('text/html; charset=utf-8').send(referencePage(dialects, `http://${host ?? ''}`, model())),
    );
    app.get(OPENAPI_PATH, async (_request, reply) =>
      reply.type('application/json').send(JSON.stringify(openApiOf(dialects, model()))),
    );
  },
});
