/**
 * All dialects of a listener on one Fastify instance, and what they share: headers, request ids, the access log, draining, unknown paths.
 *
 * In      the context of the server, with its dialects; what the listener is for
 * Out     a Fastify instance that is ready to listen (or to be injected into)
 * Limits  max_request_size a body (less in some dialects: README.md), and all of a listener at a time (body-budget.ts); as many requests
 *         at once as max_connections; answers that nobody takes (unread-answers.ts); MAX_REQUEST_ID_CHARACTERS, MAX_MODEL_NAME_CHARACTERS a path
 *         parameter; those of http2-requests.ts
 * Errors  each dialect's own; unknown paths: of the dialect with the longest prefix that fits
 * Source  DJLServing 0.36: its order of handlers, its headers of every response
 */

import { randomUUID } from 'node:crypto';
import type { Server as TlsServer } from 'node:tls';
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
import type { TlsFiles } from '../access/tls-files.js';
import type { ListenAddress } from '../config/config.js';
import { mostUnread } from '../requests/unread-bytes.js';
import { beginRequest, checkAccess, isManagement, within } from './access-gate.js';
import { timesOf } from './answers/reply-times.js';
import { tellTimes } from './answers/stream-reply.js';
import { UnreadAnswers } from './answers/unread-answers.js';
import { BodyBudget } from './bodies/body-budget.js';
import { bodyBytesOf, type Dialect, KnownPaths, type ListenerRole, wordsFor } from './dialect.js';
import { LIVE_PATH } from './dialects/health/health-routes.js';
import { methodNotAllowed, prettyJson, routeNotFound, toServingError } from './errors.js';
import type { HttpContext } from './http-context.js';
import {
  asHttp1,
  endIdleSessions,
  HEADERS_TIMEOUT_MS,
  HTTP2_OPTIONS,
  isComplete,
  isHttp2,
  limitHttp1,
  REQUEST_TIMEOUT_MS,
  refuseTwoHosts,
} from './http2-requests.js';
import { maskedUri } from './masked-uri.js';
import { MAX_MODEL_NAME_CHARACTERS } from './model-target.js';
import { followFiles, secureOptions } from './secure-listener.js';

const MAX_REQUEST_ID_CHARACTERS = 256;
const JSON_WITH_CHARSET = /^(application\/json(?:lines)?); charset=utf-8$/;

const tooMany = ({ maxConnections }: HttpContext['config']): ServingError =>
  new ServingError('QUEUE_FULL', `More requests run than there may be connections: ${maxConnections}`, {
    retryAfterSeconds: 1,
  });

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

/** A target as routes are matched: also one as a proxy sends it, `http://host/path`, and the `*` of OPTIONS. */
function originForm(target: string): string {
  if (target.startsWith('/')) return target;
  return target.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?#]*/i, '').replace(/^(?!\/)\*?/, '/');
}

/** While `context.draining` every request but a probe of life is refused with 503; running ones end in peace. */
export async function createHttpApp(
  context: HttpContext,
  dialects: readonly Dialect[],
  roles: readonly ListenerRole[],
  address: ListenAddress,
  tls: TlsFiles | null = null,
): Promise<HttpApp> {
  const { config, logger } = context;
  const requestIdHeader = config.requestIdHeaderKey.toLowerCase();
  const known = new KnownPaths();
  let active = 0;
  const idleWaiters: (() => void)[] = [];

  const errorAnswer = (url: string, error: ServingError) => wordsFor(url, dialects).error(error, config);

  const answerUnknown = (request: FastifyRequest, reply: FastifyReply) => {
    const dialect = known.find(request.url);
    if (request.method === 'OPTIONS' && dialect?.preflight !== undefined)
      return reply.type('application/json').send(dialect.preflight);
    const { status, body } = errorAnswer(request.url, dialect ? methodNotAllowed() : routeNotFound());
    return reply.code(status).type('application/json').send(body);
  };

  const transport = (
    address.tls === true && tls !== null
      ? { http2: true, https: { ...secureOptions(tls), ...HTTP2_OPTIONS } }
      : { http: { headersTimeout: HEADERS_TIMEOUT_MS } }
  ) as { http: object };
  const app = Fastify({
    loggerInstance: logger as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: config.maxRequestBytes,
    requestTimeout: REQUEST_TIMEOUT_MS,
    ...transport,
    forceCloseConnections: true,
    rewriteUrl: ({ url = '/' }) => originForm(url),
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
      if (!isHttp2(request.raw)) reply.header('connection', 'close');
      reply.code(status).type('application/json').send(body);
    },
  }) as unknown as FastifyInstance;

  app.server.maxConnections = config.maxConnections;
  if (address.tls === true && tls !== null) {
    limitHttp1(app.server);
    endIdleSessions(app.server);
    followFiles(app.server as unknown as TlsServer, tls);
  }
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
    asHttp1(request.raw);
    const { ip, method } = request;
    const { remotePort: port } = request.socket;
    active += 1;
    const times = timesOf(reply);
    // Not onResponse: it does not run for a response that the client cut off.
    reply.raw.once('close', () => {
      active -= 1;
      if (active === 0) for (const wake of idleWaiters.splice(0)) wake();
      const uri = maskedUri(request.url);
      const [status, durationMs] = [reply.raw.statusCode, reply.elapsedTime];
      const complete = isComplete(reply.raw);
      const ms = Math.round(durationMs);
      context.accessLog.info({ reqId: request.id, ip, method, uri, status, ms, complete }, 'access');
      if (isManagement(request)) {
        const key = request.accessKey?.name ?? null;
        context.accessLog.info({ reqId: request.id, ip, key, method, uri, status }, 'audit');
      }
      const { httpVersion } = request.raw;
      const parts = times.parts();
      context.onResponse?.({
        ...{ ip, method, uri, httpVersion, status, durationMs },
        ...(port && { port }),
        ...(parts && { times: parts }),
      });
    });
    refuseTwoHosts(request.raw);
    checkAccess(request, reply, context.access, config, address);
    // HTTP/2 has many on a connection, and so has a client of HTTP/1 that does not wait for answers.
    if (active > config.maxConnections && request.routeOptions.config.access !== 'open')
      throw tooMany(config);
    const refusesItself = request.routeOptions.config.refusesWhileDraining === true;
    if (context.draining && request.url !== LIVE_PATH && !refusesItself) {
      throw new ServingError('SHUTTING_DOWN', 'The server is shutting down');
    }
    beginRequest(request, reply, context.access.limits);
    // Nobody reads its body.
    if (request.is404) return answerUnknown(request, reply);
  });
  const bodies = new BodyBudget(config.maxRequestBytes);
  app.addHook('preParsing', async (request, reply, payload) =>
    bodies.metered(payload, request.raw, reply.raw),
  );
  app.addHook('preValidation', async (_request, reply) => timesOf(reply).bodyRead());
  app.addHook('onSend', async (request, reply) => {
    tellTimes(reply);
    // JSON is UTF-8 and has no such parameter (RFC 8259); DJLServing sends none.
    const [, json] = JSON_WITH_CHARSET.exec(String(reply.getHeader('content-type'))) ?? [];
    if (json !== undefined) reply.header('content-type', json);
    // A stream of HTTP/2 ends without its connection.
    if (isHttp2(request.raw)) reply.removeHeader('connection');
    else if (reply.statusCode >= 400) reply.header('connection', 'close');
  });
  const stallLimitMs = config.chunkedReadTimeoutSeconds * 1000;
  const unread = new UnreadAnswers(mostUnread(config.maxRequestBytes), stallLimitMs);
  app.addHook('onSend', async (_request, reply, payload) => {
    if (typeof payload !== 'string' && !Buffer.isBuffer(payload)) return;
    const dropped = (): void =>
      reply.log.warn({ stallLimitMs }, 'dropped a reader that does not take its answer');
    unread.begin(reply.raw, Buffer.byteLength(payload), dropped);
  });

  app.setNotFoundHandler(answerUnknown);
  app.setErrorHandler((thrown, request, reply) => {
    const error = toServingError(thrown, config.maxRequestBytes, request.routeOptions.bodyLimit);
    if (error.code === 'INTERNAL') request.log.error({ err: thrown }, 'a request failed');
    const { status, body } = errorAnswer(request.url, error);
    return reply.code(status).type('application/json').send(body);
  });

  for (const dialect of dialects.filter((one) => one.roles.some((role) => roles.includes(role)))) {
    await app.register(async (scope) => {
      scope.addHook('onRoute', (route) => {
        known.add(route.url, dialect);
        const { access = dialect.access } = route.config ?? {};
        const most = bodyBytesOf(access === 'open' ? { access } : dialect);
        if (most !== null) route.bodyLimit = Math.min(config.maxRequestBytes, most);
      });
      await within(dialect.access, (inner: FastifyInstance) => dialect.routes(inner, context))(scope, {});
    });
  }
  // TorchServe's own answer to it is another.
  if (!app.hasRoute({ method: 'OPTIONS', url: '/' })) {
    app.options('/', { config: { access: SCOPES } }, async (_request, reply) =>
      reply.type('application/json').send(prettyJson({})),
    );
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
