/**
 * All dialects of a listener on one Fastify instance, and what they share: headers, request ids, the access log, draining, unknown paths.
 *
 * In      the context of the server; the listener's role
 * Out     a Fastify instance that is ready to listen (or to be injected into)
 * Limits  max_request_size a body, and all of a listener at a time (body-budget.ts); MAX_REQUEST_ID_CHARACTERS, MAX_MODEL_NAME_CHARACTERS a path parameter, REQUEST_TIMEOUT_MS to send a
 *         whole request
 * Errors  each dialect's own; unknown paths: OpenAI's under /v1, DJLServing's elsewhere
 * Source  reference serving-apis §1.1, §1.2
 */
import { randomUUID } from 'node:crypto';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
  type RouteOptions,
} from 'fastify';
import { ServingError } from '../../proto/errors.js';
import { SCOPES, type Scope } from '../access/access-key.js';
import type { ListenAddress } from '../config/config.js';
import { checkAccess, within } from './access-gate.js';
import { BodyBudget } from './bodies/body-budget.js';
import { djlError } from './dialects/djl/djl-errors.js';
import { djlRoutes } from './dialects/djl/djl-routes.js';
import { healthRoutes, LIVE_PATH, pingRoute } from './dialects/health/health-routes.js';
import { managementRoutes } from './dialects/management/management-routes.js';
import { metricsRoutes } from './dialects/metrics/metrics-routes.js';
import { openAiError } from './dialects/openai/openai-errors.js';
import { openAiRoutes } from './dialects/openai/openai-routes.js';
import { methodNotAllowed, prettyJson, routeNotFound, toServingError } from './errors.js';
import type { HttpContext } from './http-context.js';
import { maskedUri } from './masked-uri.js';
import { MAX_MODEL_NAME_CHARACTERS } from './model-target.js';

const MAX_REQUEST_ID_CHARACTERS = 256;
const JSON_WITH_CHARSET = /^(application\/json(?:lines)?); charset=utf-8$/;
/** To receive a whole request: a sender that drips is dropped. */
const REQUEST_TIMEOUT_MS = 120_000;

/** What a listener answers: inference, management, or both where their addresses are equal. */
export type ListenerRole = 'inference' | 'management' | 'both';

/** Paths that exist for other methods; DJLServing's management paths refuse the method before they look at the name. */
const INFERENCE_PATHS = [
  /^\/v1\/(?:(?:chat\/)?completions|embeddings)(?:\?.*)?$/,
  /^\/v1\/models(?:[/?].*)?$/,
];
const MANAGEMENT_PATHS = [
  /^\/(?:models|workflows)(?:\/[^/?]*){0,2}(?:\?.*)?$/,
  /^\/server\/(?:logging|metrics)(?:\?.*)?$/,
];

/** What the routes of a listener need, between them. */
export const ROLE_SCOPES: Readonly<Record<ListenerRole, readonly Scope[]>> = {
  inference: ['infer'],
  management: ['manage', 'metrics'],
  both: SCOPES,
};

/** A route and what it needs. */
export interface ListedRoute {
  method: string;
  url: string;
  access: readonly Scope[] | 'open';
}

export interface HttpApp {
  app: FastifyInstance;
  /** All there are. */
  routes(): ListedRoute[];
  /** Resolves when no request runs. */
  idle(): Promise<void>;
}

/** While `context.draining` every request but a probe of life is refused with 503; running ones end in peace. */
export async function createHttpApp(
  context: HttpContext,
  role: ListenerRole,
  address: ListenAddress,
): Promise<HttpApp> {
  const { config, logger } = context;
  const requestIdHeader = config.requestIdHeaderKey.toLowerCase();
  const knownPaths = [
    ...(role === 'management' ? [] : INFERENCE_PATHS),
    ...(role === 'inference' ? [] : MANAGEMENT_PATHS),
  ];
  let active = 0;
  const idleWaiters: (() => void)[] = [];

  const errorAnswer = (url: string, error: ServingError) =>
    url.startsWith('/v1/') ? openAiError(error) : djlError(error, config);

  const app = Fastify({
    loggerInstance: logger as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: config.maxRequestBytes,
    requestTimeout: REQUEST_TIMEOUT_MS,
    forceCloseConnections: true,
    exposeHeadRoutes: false,
    requestIdHeader: false,
    genReqId: (raw) => {
      // SageMaker names its own id of a request.
      const given = raw.headers[requestIdHeader] ?? raw.headers['x-amzn-sagemaker-inference-id'];
      const usable = typeof given === 'string' && given !== '' && given.length <= MAX_REQUEST_ID_CHARACTERS;
      return usable ? given : randomUUID();
    },
    // DJLServing divides a path by its slashes and drops what is empty at the end.
    routerOptions: { maxParamLength: MAX_MODEL_NAME_CHARACTERS, ignoreTrailingSlash: true },
    frameworkErrors: (thrown: FastifyError, request: FastifyRequest, reply: FastifyReply) => {
      const { status, body } = errorAnswer(request.url, toServingError(thrown, config.maxRequestBytes));
      reply.code(status).header('connection', 'close').type('application/json').send(body);
    },
  }) as unknown as FastifyInstance;

  // DJLServing's inference paths do not look at the method, so a GET may carry a body.
  app.addHttpMethod('GET', { hasBody: true, overrideExisting: true });
  const corsHeaders = Object.fromEntries(
    [
      ['access-control-allow-origin', config.corsAllowedOrigin],
      ['access-control-allow-methods', config.corsAllowedMethods],
      ['access-control-allow-headers', config.corsAllowedHeaders],
    ].filter((entry): entry is [string, string] => entry[1] !== null),
  );
  app.decorateRequest('accessKey', null);
  const routes: RouteOptions[] = [];
  app.addHook('onRoute', (route) => {
    routes.push(route);
  });
  app.addHook('onRequest', async (request, reply) => {
    reply.headers({
      'x-request-id': request.id,
      pragma: 'no-cache',
      'cache-control': 'no-cache; no-store, must-revalidate, private',
      expires: 'Thu, 01 Jan 1970 00:00:00 UTC',
      ...corsHeaders,
    });
    active += 1;
    // Not onResponse: it does not run for a response that the client cut off.
    reply.raw.once('close', () => {
      active -= 1;
      if (active === 0) for (const wake of idleWaiters.splice(0)) wake();
      const { ip, method } = request;
      const uri = maskedUri(request.url);
      const [status, durationMs] = [reply.raw.statusCode, reply.elapsedTime];
      const complete = reply.raw.writableFinished;
      request.log.info({ ip, method, uri, status, ms: Math.round(durationMs), complete }, 'access');
      const { httpVersion } = request.raw;
      context.onResponse?.({ ip, method, uri, httpVersion, status, durationMs });
    });
    checkAccess(request, reply, context.access, config, address);
    const refusesItself = request.routeOptions.config.refusesWhileDraining === true;
    if (context.draining && request.url !== LIVE_PATH && !refusesItself) {
      throw new ServingError('SHUTTING_DOWN', 'The server is shutting down');
    }
  });
  const bodies = new BodyBudget(config.maxRequestBytes);
  app.addHook('preParsing', async (request, reply, payload) =>
    bodies.metered(payload, request.raw, reply.raw),
  );
  app.addHook('onSend', async (_request, reply) => {
    // JSON is UTF-8 and has no such parameter (RFC 8259); DJLServing sends none.
    const [, json] = JSON_WITH_CHARSET.exec(String(reply.getHeader('content-type'))) ?? [];
    if (json !== undefined) reply.header('content-type', json);
    if (reply.statusCode >= 400) reply.header('connection', 'close');
  });

  app.setNotFoundHandler((request, reply) => {
    const known = knownPaths.some((path) => path.test(request.url));
    const isOpenAi = request.url.startsWith('/v1/');
    // CORS preflight of OpenAI's paths, as DJLServing answers it for its own.
    if (known && isOpenAi && request.method === 'OPTIONS') return reply.type('application/json').send('{}');
    const { status, body } = errorAnswer(request.url, known ? methodNotAllowed() : routeNotFound());
    return reply.code(status).type('application/json').send(body);
  });
  app.setErrorHandler((thrown, request, reply) => {
    const error = toServingError(thrown, config.maxRequestBytes);
    if (error.code === 'INTERNAL') request.log.error({ err: thrown }, 'a request failed');
    const { status, body } = errorAnswer(request.url, error);
    return reply.code(status).type('application/json').send(body);
  });

  app.options('/', { config: { access: SCOPES } }, async (_request, reply) =>
    reply.type('application/json').send(prettyJson({})),
  );
  await app.register(within(SCOPES, healthRoutes), context);
  if (role !== 'management') {
    await app.register(within('open', pingRoute), context);
    await app.register(within(['infer'], djlRoutes), context);
    await app.register(within(['infer'], openAiRoutes), context);
  }
  if (role !== 'inference') {
    await app.register(within(['manage'], managementRoutes), context);
    if (context.metrics) await app.register(within(['metrics'], metricsRoutes), { metrics: context.metrics });
  }
  await app.ready();
  return {
    app,
    routes: () =>
      routes.flatMap(({ config: { access = [] } = {}, method, url }) =>
        [method].flat().map((one) => ({ method: one, url, access })),
      ),
    idle: async () => {
      if (active === 0) return;
      await new Promise<void>((resolve) => {
        idleWaiters.push(resolve);
      });
    },
  };
}
