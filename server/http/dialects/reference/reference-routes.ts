/**
 * The reference of every route that the server speaks: a page at `/`, the same for programs at `/openapi.json`.
 *
 * In      what the dialects say of their routes; the name of a model that is loaded, for the examples
 * Out     HTML; an OpenAPI 3.1 document, whose schemas are those that requests are checked by
 * Errors  none of its own
 */
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
  // It tells nothing that is not in the documentation.
  access: 'open',
  refusesMethods: false,
  routes: async (app: FastifyInstance, { service }: HttpContext) => {
    const modelFor = ({ isChat, tasks }: DocumentedRoute): string => {
      const fitting = service
        .models()
        .filter(({ task }) => tasks === undefined || (task !== null && tasks.includes(task)));
      // Answers of a model are read in one format or another where it has a template.
      const chats = isChat ? fitting.filter(({ answerFormat }) => answerFormat) : [];
      return (chats[0] ?? fitting[0])?.name ?? ANY_MODEL;
    };
    app.get(REFERENCE_PATH, async ({ headers: { host }, protocol }, reply) =>
      reply
        .type('text/html; charset=utf-8')
        .send(referencePage(dialects, `${protocol}://${host ?? ''}`, modelFor)),
    );
    app.get(OPENAPI_PATH, async (_request, reply) =>
      reply.type('application/json').send(JSON.stringify(openApiOf(dialects, modelFor))),
    );
  },
});
