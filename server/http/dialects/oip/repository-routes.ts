/**
 * The repository calls of the Open Inference Protocol over HTTP: index, load, unload.
 *
 * In      {"ready": bool} for the index; the name of a folder of the model store
 * Out     [{"name", "version", "state", "reason"}]; nothing
 * Errors  {"error": …} with the table's status
 * Source  Triton's model repository extension
 */
import path from 'node:path';
import type { FastifyInstance } from 'fastify';
import { ServingError } from '../../../../proto/errors.js';
import { jsonBodyParser } from '../../bodies/json-body.js';
import type { Dialect } from '../../dialect.js';
import type { HttpContext } from '../../http-context.js';
import { addErrors } from './oip-routes.js';

const STATES = { READY: 'READY', PENDING: 'LOADING', FAILED: 'UNAVAILABLE' } as const;

export const oipRepositoryDialect: Dialect = {
  name: 'oip-repository',
  roles: ['management'],
  access: ['manage'],
  refusesMethods: true,
  reference: [
    {
      method: 'POST',
      path: '/v2/repository/index',
      summary: 'Every model and its state (Open Inference Protocol).',
    },
    {
      method: 'POST',
      path: '/v2/repository/models/:model/load',
      summary: 'Loads a folder of the model store.',
    },
    { method: 'POST', path: '/v2/repository/models/:model/unload', summary: 'Unloads a model.' },
  ],
  routes: repositoryRoutes,
};

async function repositoryRoutes(app: FastifyInstance, context: HttpContext): Promise<void> {
  const { config, management } = context;
  addErrors(app, context);
  const parseJson = jsonBodyParser(app);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'string' }, (request, text, done) => {
    if ((text as string).trim() === '') done(null, {});
    else parseJson(request, text as string, done);
  });
  app.post('/v2/repository/index', async (request, reply) => {
    const { ready = false } = (request.body ?? {}) as { ready?: unknown };
    const models = management
      .list()
      .filter(({ state }) => ready !== true || state === 'READY')
      .map(({ failure, name, state, version }) => ({
        ...{ name, version: version ?? '', state: STATES[state], reason: failure?.message ?? '' },
      }));
    return reply.type('application/json').send(JSON.stringify(models));
  });
  app.post('/v2/repository/models/:model/load', async (request, reply) => {
    const { model } = request.params as { model: string };
    if (!/^[A-Za-z0-9][\w.-]{0,254}$/.test(model))
      throw new ServingError('BAD_REQUEST', 'The name must be that of a folder of the model store');
    const url = path.join(config.modelStore, model);
    const registration = await management.register({ url, name: model, version: null });
    await registration.ready;
    return reply.code(200).send();
  });
  app.post('/v2/repository/models/:model/unload', async (request, reply) => {
    await management.unregister((request.params as { model: string }).model, null);
    return reply.code(200).send();
  });
}
