/**
 * TorchServe's management API: /models (register, list, describe, scale, unregister, set-default), /token, KServe's readiness.
 *
 * In      query parameters; POST /models also a JSON body of them
 * Out     {"status": …}, or TorchServe's descriptions
 * Limits  registering and unregistering need enable_model_api; MAX_PARAMETER_CHARACTERS
 * Errors  {"code", "type", "message"} in TorchServe's words; 405 for another method of a known path
 * Source  TorchServe's management API
 */
import { type Static, type TObject, Type } from '@sinclair/typebox';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { MAX_SLOTS } from '../../../../proto/limits.js';
import { TOKEN_KINDS, type TokenKind } from '../../../access/token-file.js';
import { clientSignal } from '../../answers/stream-reply.js';
import { addOptionalJsonParser } from '../../bodies/optional-json.js';
import type { Dialect } from '../../dialect.js';
import { setErrorWords } from '../../error-handler.js';
import { methodNotAllowed, prettyJson } from '../../errors.js';
import type { HttpContext } from '../../http-context.js';
import { ModelParams } from '../../model-target.js';
import { parameterValidator } from '../management/management-request.js';
import { describedByHandlers } from './customized.js';
import { TorchServeRefusal, torchServeError } from './torchserve-errors.js';
import type { Told, TorchServeModels } from './torchserve-models.js';

const MAX_PARAMETER_CHARACTERS = 4096;
const MAX_WORKERS = 64;
const MAX_SECONDS = 604_800;
const MAX_DELAY_MS = 600_000;

const optional = Type.Optional;
const text = optional(Type.String({ maxLength: MAX_PARAMETER_CHARACTERS }));
const integer = (minimum: number, maximum: number) => optional(Type.Integer({ minimum, maximum }));
const name = optional(
  Type.String({
    pattern: '^[A-Za-z0-9_.-]{1,128}$',
    expects: 'a name of 1 … 128 letters, digits, _, . and -',
  }),
);

export const TorchServeRegister = Type.Object({
  url: text,
  model_name: name,
  handler: text,
  runtime: text,
  batch_size: integer(1, MAX_SLOTS),
  max_batch_delay: integer(0, MAX_DELAY_MS),
  initial_workers: integer(0, MAX_WORKERS),
  synchronous: optional(Type.Boolean()),
  response_timeout: integer(1, MAX_SECONDS),
  startup_timeout: integer(1, MAX_SECONDS),
  s3_sse_kms: optional(Type.Boolean()),
});

export const TorchServeScale = Type.Object({
  min_worker: integer(0, MAX_WORKERS),
  max_worker: integer(0, MAX_WORKERS),
  synchronous: optional(Type.Boolean()),
  timeout: optional(Type.Integer()),
  number_gpu: optional(Type.Integer()),
});

const Describe = Type.Object({ customized: optional(Type.Boolean()) });
const Page = Type.Object({ limit: optional(Type.Integer()), next_page_token: optional(Type.Integer()) });

export const torchServeManagement = (models: TorchServeModels): Dialect => ({
  name: 'torchserve-management',
  roles: ['management'],
  access: ['manage'],
  words: { prefix: '/', error: torchServeError },
  refusesMethods: true,
  reference: [
    { method: 'GET', path: '/models', summary: 'Default versions of all models.', query: Page },
    { method: 'POST', path: '/models', summary: 'Registers a model.', query: TorchServeRegister },
    {
      ...{ method: 'GET', path: '/models/:model', query: Describe },
      summary: 'Describes a model; with customized=true also what its handler says of it.',
    },
    { method: 'PUT', path: '/models/:model', summary: 'Scales its workers.', query: TorchServeScale },
    { method: 'DELETE', path: '/models/:model', summary: 'Unregisters a model.' },
    {
      method: 'PUT',
      path: '/models/:model/:version/set-default',
      summary: 'Makes a version the default one.',
    },
  ],
  routes: (app, context) => managementRoutes(app, context, models),
});

async function managementRoutes(
  app: FastifyInstance,
  context: HttpContext,
  models: TorchServeModels,
): Promise<void> {
  const { enableModelApi } = models.parts.config;
  addOptionalJsonParser(app);
  app.setValidatorCompiler(({ schema }) => parameterValidator(schema as TObject));
  setErrorWords(app, context, { tell: torchServeError, counted: false });
  /** Before anything of the request is looked at. */
  const modelApi = async (): Promise<void> => {
    if (!enableModelApi) throw methodNotAllowed();
  };

  app.get('/models', { schema: { querystring: Page } }, async (request, reply) => {
    const { limit = null, next_page_token: token = null } = request.query as Static<typeof Page>;
    return sendJson(reply, 200, models.list(limit, token));
  });
  app.post(
    '/models',
    { schema: { querystring: TorchServeRegister, body: TorchServeRegister }, onRequest: modelApi },
    async (request, reply) => {
      const given = {
        ...(request.query as Static<typeof TorchServeRegister>),
        ...(request.body as Static<typeof TorchServeRegister>),
      };
      return tell(reply, await models.register(given));
    },
  );
  for (const url of ['/models/:model', '/models/:model/:version']) {
    const params = ModelParams;
    app.get(url, { schema: { params, querystring: Describe } }, async (request, reply) => {
      const { model, version } = addressed(request);
      const { customized = false } = request.query as Static<typeof Describe>;
      const described = customized
        ? await describedByHandlers(context, models, model, version, clientSignal(reply))
        : models.describe(model, version);
      return sendJson(reply, 200, described);
    });
    app.put(url, { schema: { params, querystring: TorchServeScale } }, async (request, reply) => {
      const { model, version } = addressed(request);
      return tell(reply, await models.scale(model, version, request.query as Static<typeof TorchServeScale>));
    });
    app.delete(url, { schema: { params }, onRequest: modelApi }, async (request, reply) => {
      const { model, version } = addressed(request);
      return tell(reply, await models.unregister(model, version));
    });
  }
  app.put(
    '/models/:model/:version/set-default',
    { schema: { params: ModelParams } },
    async (request, reply) => {
      const { model, version } = request.params as { model: string; version: string };
      return tell(reply, models.setDefault(model, version));
    },
  );
  // OpenAI's, where one address has both APIs.
  const url = '/v1/models/:model';
  if (!app.hasRoute({ method: 'GET', url })) {
    app.get(url, { schema: { params: ModelParams } }, async (request, reply) => {
      const { model } = request.params as { model: string };
      const pool = models.find(model, null);
      const ready = pool.groups.some(({ state }) => state === 'running');
      return sendJson(reply, 200, { name: model, ready });
    });
  }
  app.get('/token', { config: { access: 'open' } }, async (request, reply) => {
    renewToken(request, models);
    return reply.code(200).send();
  });
}

/** @throws ServingError, in TorchServe's words */
function renewToken({ headers, query }: FastifyRequest, { parts: { tokens } }: TorchServeModels): void {
  const given = /^Bearer\s+(\S+)$/.exec(headers.authorization ?? '')?.[1];
  const { type } = query as { type?: string };
  const isKind = TOKEN_KINDS.some((kind) => kind === type);
  if (tokens === null || given === undefined || !isKind || !tokens.isApiKey(given)) {
    const sentence =
      'Token Authentication failed. Token either incorrect, expired, or not provided correctly';
    throw new TorchServeRefusal('UNAUTHENTICATED', 'InvalidKeyException', 400, sentence);
  }
  tokens.renew(type as TokenKind);
}

function addressed(request: FastifyRequest): { model: string; version: string | null } {
  const { model, version } = request.params as { model: string; version?: string };
  return { model, version: version ?? null };
}

const tell = (reply: FastifyReply, { message, status }: Told): FastifyReply =>
  sendJson(reply, status, { status: message });

function sendJson(reply: FastifyReply, code: number, body: unknown): FastifyReply {
  return reply.code(code).type('application/json').send(prettyJson(body));
}
