/**
 * All dialects on one Fastify instance, and what they share: headers, request ids, the access log, draining, unknown paths.
 *
 * In      the configuration, the work load manager as a GenerationService, a logger
 * Out     a Fastify instance that is ready to listen (or to be injected into)
 * Limits  max_request_size a body, MAX_REQUEST_ID_CHARACTERS, MAX_MODEL_NAME_CHARACTERS a path parameter, REQUEST_TIMEOUT_MS to send a
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
} from 'fastify';
import type { Logger } from 'pino';
import { ServingError } from '../../proto/errors.js';
import type { ServerConfig } from '../config/config.js';
import type { GenerationService } from '../jobs/generate-request.js';
import { djlRoutes } from './djl-routes.js';
import { djlError, methodNotAllowed, openAiError, routeNotFound, toServingError } from './errors.js';
import { MAX_MODEL_NAME_CHARACTERS } from './model-target.js';
import { openAiRoutes } from './openai-routes.js';

const MAX_REQUEST_ID_CHARACTERS = 256;
/** To receive a whole request: a sender that drips is dropped. */
const REQUEST_TIMEOUT_MS = 120_000;

/** Paths that exist for other methods; DJLServing's management paths refuse the method before they look at the name. */
const OTHER_METHOD_PATHS = [
  /^\/(?:models|workflows)(?:[/?].*)?$/,
  /^\/server\/.+/,
  /^\/v1\/(?:chat\/)?completions(?:\?.*)?$/,
  /^\/v1\/models(?:[/?].*)?$/,
];

export interface HttpDeps {
  config: ServerConfig;
  service: GenerationService;
  logger: Logger;
  /** The model that a request without a name means; null when there is not exactly one startup model. */
  singleStartupModel(): string | null;
}

export interface HttpApp {
  app: FastifyInstance;
  /** From now on every request is refused with 503 and its connection closed; running ones end in peace. */
  setDraining(): void;
  /** Resolves when no request runs. */
  idle(): Promise<void>;
}

export async function createHttpApp(deps: HttpDeps): Promise<HttpApp> {
  const { config, logger } = deps;
  const requestIdHeader = config.requestIdHeaderKey.toLowerCase();
  let draining = false;
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
      const given = raw.headers[requestIdHeader];
      const usable = typeof given === 'string' && given !== '' && given.length <= MAX_REQUEST_ID_CHARACTERS;
      return usable ? given : randomUUID();
    },
    routerOptions: { maxParamLength: MAX_MODEL_NAME_CHARACTERS },
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
      request.log.info(
        {
          ip: request.ip,
          method: request.method,
          uri: request.url,
          status: reply.raw.statusCode,
          ms: Math.round(reply.elapsedTime),
          complete: reply.raw.writableFinished,
        },
        'access',
      );
    });
    if (draining) throw new ServingError('SHUTTING_DOWN', 'The server is shutting down');
  });
  app.addHook('onSend', async (_request, reply) => {
    if (reply.statusCode >= 400) reply.header('connection', 'close');
  });

  app.setNotFoundHandler((request, reply) => {
    const known = OTHER_METHOD_PATHS.some((path) => path.test(request.url));
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

  await app.register(djlRoutes, deps);
  await app.register(openAiRoutes, deps);
  await app.ready();
  return {
    app,
    setDraining: () => {
      draining = true;
    },
    idle: async () => {
      if (active === 0) return;
      await new Promise<void>((resolve) => {
        idleWaiters.push(resolve);
      });
    },
  };
}
