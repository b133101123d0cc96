/**
 * Metrics for Prometheus: /metrics (always) and DJLServing's /server/metrics (with SERVING_PROMETHEUS=true).
 *
 * In      GET; `name[]` (repeated): only these metrics
 * Out     the text format; the same metrics at both paths
 * Errors  400 with DJLServing's sentence while its metrics are off; 405 for other methods
 * Source  DJLServing 0.36: GET /server/metrics
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ServingError } from '../../../../proto/errors.js';
import type { Dialect } from '../../dialect.js';
import { methodNotAllowed, toServingError } from '../../errors.js';
import type { HttpContext, MetricsText } from '../../http-context.js';
import { djlError } from '../djl/djl-errors.js';
import { FIXED_CODES } from '../management/management-routes.js';

const DISABLED =
  'Prometheus is not enabled, set SERVING_PROMETHEUS environment var to true to enable prometheus metrics';
const OTHER_METHODS = ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

export const metricsDialect: Dialect = {
  name: 'metrics',
  roles: ['metrics'],
  access: ['metrics'],
  // By routes of its own, which don't wait for a body.
  refusesMethods: false,
  reference: [
    { method: 'GET', path: '/metrics', summary: 'Metrics for Prometheus.' },
    {
      method: 'GET',
      path: '/server/metrics',
      summary: "The same, as DJLServing's: with SERVING_PROMETHEUS=true.",
    },
  ],
  routes: metricsRoutes,
};

async function metricsRoutes(app: FastifyInstance, { metrics }: HttpContext): Promise<void> {
  app.setErrorHandler((thrown, request, reply) => {
    const error = toServingError(thrown, 0);
    if (error.code === 'INTERNAL') request.log.error({ err: thrown }, 'a scrape failed');
    const { body, status } = djlError(error, FIXED_CODES);
    return reply.code(status).type('application/json').send(body);
  });
  if (metrics !== undefined) readRoutes(app, metrics);
  for (const url of ['/metrics', '/server/metrics']) {
    app.route({
      method: OTHER_METHODS,
      url,
      // Before any look at a body.
      onRequest: async () => {
        throw methodNotAllowed();
      },
      handler: async () => {},
    });
  }
}

function readRoutes(app: FastifyInstance, metrics: MetricsText): void {
  const answer = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
    const text = await metrics.text(namesOf(request.query));
    return reply.type(metrics.contentType).send(text);
  };
  app.get('/metrics', { exposeHeadRoute: true }, answer);
  app.get('/server/metrics', { exposeHeadRoute: true }, (request, reply) => {
    if (!metrics.prometheus) throw new ServingError('BAD_REQUEST', DISABLED);
    return answer(request, reply);
  });
}

/** `name[]=A&name[]=B`; `name=A` too, as people write it by hand. */
function namesOf(query: unknown): ReadonlySet<string> {
  const { 'name[]': listed = [], name = [] } = query as Record<string, string | string[] | undefined>;
  return new Set([listed, name].flat());
}
