/**
 * Health: DJLServing's /ping, and what orchestrators ask for.
 *
 * Out     /ping (any method) as ping.ts says; GET /health/live: 200 while the process answers; GET /health/ready: 200 when requests
 *         are taken and every startup model is ready; GET /models/{model}[/{version}]/ready: 200 when it can run a request
 * Errors  503 with {"status", "reason"} where it is not ready; 404 for an unknown model
 * Source  DJLServing 0.36 for /ping; Kubernetes for live and ready
 */
import type { TSchema } from '@sinclair/typebox';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { SCOPES } from '../../../access/access-key.js';
import type { PoolDescription } from '../../../requests/management.js';
import { compileValidator } from '../../../requests/validation.js';
import { ALL_ROLES, type Dialect, SHORT_BODY_BYTES } from '../../dialect.js';
import { prettyJson } from '../../errors.js';
import type { HttpContext } from '../../http-context.js';
import { ModelParams, modelNotFound, registeredName } from '../../model-target.js';
import { ping } from './ping.js';

export const LIVE_PATH = '/health/live';
export const READY_PATH = '/health/ready';
const PING_METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

/** /ping, which belongs to the inference address. */
export const pingDialect: Dialect = {
  name: 'ping',
  roles: ['inference'],
  access: 'open',
  refusesMethods: false,
  reference: [{ method: 'GET', path: '/ping', summary: 'Health of every model.' }],
  routes: pingRoute,
};

/** Probes, on every address. */
export const healthDialect: Dialect = {
  name: 'health',
  roles: ALL_ROLES,
  access: SCOPES,
  longestBody: SHORT_BODY_BYTES,
  refusesMethods: false,
  reference: [
    { method: 'GET', path: LIVE_PATH, summary: 'The process answers.' },
    {
      method: 'GET',
      path: READY_PATH,
      summary: 'Requests are taken, and every startup model is ready.',
    },
    { method: 'GET', path: '/models/:model/ready', summary: 'One model can run a request.' },
  ],
  routes: healthRoutes,
};

async function pingRoute(app: FastifyInstance, context: HttpContext): Promise<void> {
  app.route({
    method: PING_METHODS,
    url: '/ping',
    handler: async (_request, reply) => {
      const { errorRates, config, management } = context;
      const { status, body } = ping(management.list(), errorRates.tripped, config);
      return reply.code(status).type('application/json').send(prettyJson(body));
    },
  });
}

async function healthRoutes(app: FastifyInstance, context: HttpContext): Promise<void> {
  app.setValidatorCompiler(({ schema }) => {
    const validator = compileValidator(schema as TSchema);
    return (value: unknown) => validator.check(value);
  });
  const probe = { method: ['GET', 'HEAD'], config: { access: 'open' as const } };
  app.route({ ...probe, url: LIVE_PATH, handler: async (_request, reply) => answer(reply, null, 'live') });
  const ready = async (_request: unknown, reply: FastifyReply) => answer(reply, reasonNotReady(context));
  app.route({ ...probe, url: READY_PATH, handler: ready });
  const schema = { params: ModelParams };
  for (const url of ['/models/:model/ready', '/models/:model/:version/ready']) {
    app.get(url, { schema }, async (request, reply) => {
      const { model, version = null } = request.params as { model: string; version?: string };
      const all = context.management.list();
      const name = registeredName(all, model, version);
      if (name === null) throw modelNotFound('Model or workflow', { model, version }, all);
      const pools = all.filter(
        (pool) => pool.name === name && (version === null || pool.version === version),
      );
      const reasons = pools.map(reasonPoolNotReady);
      return answer(reply, reasons.includes(null) ? null : reasons.join('; '));
    });
  }
}

function answer(reply: FastifyReply, reason: string | null, good = 'ready'): FastifyReply {
  const body = reason === null ? { status: good } : { status: `not ${good}`, reason };
  return reply
    .code(reason === null ? 200 : 503)
    .type('application/json')
    .send(prettyJson(body));
}

/** Startup models are registered before the server listens. */
function reasonNotReady({ draining, management }: HttpContext): string | null {
  if (draining) return 'the server is shutting down';
  const reasons = management
    .list()
    .filter(({ loadedAtStartup }) => loadedAtStartup)
    .flatMap((pool) => reasonPoolNotReady(pool) ?? []);
  return reasons.length === 0 ? null : reasons.join('; ');
}

function reasonPoolNotReady({
  name,
  version,
  state,
  failure,
  groups,
  maxGroups,
}: PoolDescription): string | null {
  const id = version === null ? name : `${name}:${version}`;
  if (state === 'PENDING') return `${id} is loading`;
  if (state === 'FAILED') return `${id} has failed${failure === null ? '' : `: ${failure.message}`}`;
  if (groups.some((group) => group.state === 'running')) return null;
  return maxGroups === 0 ? `${id} is scaled to no workers` : `no worker group of ${id} runs`;
}
