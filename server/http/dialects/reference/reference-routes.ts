/**
 * The reference of every route that the server speaks: a page at `/`, the same for programs at `/openapi.json`.
 *
 * In      what the dialects say of their routes; the name of a model that is loaded, for the examples
 * Out     HTML; an OpenAPI 3.1 document, whose schemas are those that requests are checked by
 * Errors  none of its own
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyInstance } from 'fastify';
import type { Dialect, DocumentedRoute } from '../../dialect.js';
import type { HttpContext } from '../../http-context.js';
import { openApiOf } from './openapi.js';
import { referencePage } from './reference-page.js';

export const REFERENCE_PATH = '/';
export const OPENAPI_PATH = '/openapi.json';
/** In the examples, where no model that they could ask is loaded. */
const ANY_MODEL = 'MODEL';

/** @param dialects whose routes it lists */
export const referenceDialect = (dialects: readonly Dialect[]): Dialect => ({
  name: 'reference',
  roles: ['inference', 'management'],
  // It tells nothing that is not in the documentation, but the name of a model to those who may ask it.
  access: 'open',
  refusesMethods: false,
  routes: async (app: FastifyInstance, { access, service }: HttpContext) => {
    const maySee = (headers: IncomingHttpHeaders): boolean => {
      try {
        access.demand(access.keyOf(headers), ['infer']);
        return true;
      } catch {
        return false;
      }
    };
    const loadedFor = ({ isChat, tasks }: DocumentedRoute): string => {
      const fitting = service
        .models()
        .filter(({ task }) => tasks === undefined || (task !== null && tasks.includes(task)));
      // Answers of a model are read in one format or another where it has a template.
      const chats = isChat ? fitting.filter(({ answerFormat }) => answerFormat) : [];
      return (chats[0] ?? fitting[0])?.name ?? ANY_MODEL;
    };
    const modelFor = (headers: IncomingHttpHeaders) => (maySee(headers) ? loadedFor : () => ANY_MODEL);
    app.get(REFERENCE_PATH, { exposeHeadRoute: true }, async ({ headers, protocol }, reply) =>
      reply
        .type('text/html; charset=utf-8')
        .send(referencePage(dialects, `${protocol}://${headers.host ?? ''}`, modelFor(headers))),
    );
    app.get(OPENAPI_PATH, { exposeHeadRoute: true }, async ({ headers }, reply) =>
      reply.type('application/json').send(JSON.stringify(openApiOf(dialects, modelFor(headers)))),
    );
  },
});
