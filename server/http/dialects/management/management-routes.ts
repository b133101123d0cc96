/**
 * DJLServing's management API: /models, /workflows (each model is the workflow of its name, and there are others), /server/logging.
 *
 * In      query parameters; a JSON body for POST /models (SageMaker's multi-model contract)
 * Out     {"status": …} or the shapes of management-response.ts, pretty-printed
 * Limits  those of management-request.ts; max_request_size
 * Errors  {"code", "type", "message"} with DJLServing's fixed codes (the configurable ones are of the inference API); 405 for
 *         another method of a known path
 * Source  DJLServing 0.36: ManagementRequestHandler
 */
import type { Static, TObject } from '@sinclair/typebox';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { type ErrorCode, ServingError } from '../../../../proto/errors.js';
import { InvalidInput } from '../../../requests/invalid-input.js';
import { addOptionalJsonParser } from '../../bodies/optional-json.js';
import type { Dialect } from '../../dialect.js';
import { setErrorWords } from '../../error-handler.js';
import { prettyJson } from '../../errors.js';
import type { HttpContext } from '../../http-context.js';
import { ModelParams, type ModelTarget, modelNotFound, registeredName } from '../../model-target.js';
import { djlError, djlErrorWith, type StatusKey } from '../djl/djl-errors.js';
import {
  LoggingParameters,
  PageParameters,
  pageOf,
  parameterValidator,
  RegisterParameters,
  registerRequest,
  ScaleParameters,
  scaleRequest,
  WorkflowParameters,
  workflowRequest,
} from './management-request.js';
import {
  describeBody,
  modelsBody,
  scaledStatus,
  workflowBody,
  workflowsBody,
} from './management-response.js';

export const FIXED_CODES: Record<StatusKey, number> = {
  badRequestHttpCode: 400,
  wlmErrorHttpCode: 503,
  throttleErrorHttpCode: 503,
  serverErrorHttpCode: 500,
};
const ANY_METHOD = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'];
interface Addressed {
  model: string;
  version?: string;
}

export const managementDialect: Dialect = {
  name: 'management',
  roles: ['management'],
  access: ['manage'],
  // DJLServing's management paths refuse the method before they look at the name.
  refusesMethods: true,
  reference: [
    { method: 'GET', path: '/models', summary: 'Every model, by pages.', query: PageParameters },
    {
      method: 'POST',
      path: '/models',
      summary: 'Registers a model by its URL.',
      query: RegisterParameters,
      requiredQuery: ['url'],
      exampleQuery: () => ({ url: 'URL' }),
    },
    { method: 'GET', path: '/models/:model', summary: 'Describes a model and its workers.' },
    {
      method: 'PUT',
      path: '/models/:model',
      summary: 'Scales the workers of a model; of a version, says its share of the requests (weight).',
      query: ScaleParameters,
    },
    { method: 'DELETE', path: '/models/:model', summary: 'Unregisters a model.' },
    {
      method: 'POST',
      path: '/workflows',
      summary: 'Registers a workflow by its URL: a .war, a folder with workflow.json, or an ensemble.',
      query: WorkflowParameters,
      requiredQuery: ['url'],
      exampleQuery: () => ({ url: 'URL' }),
    },
    {
      method: 'GET',
      path: '/workflows',
      summary: 'Every model and workflow, by pages.',
      query: PageParameters,
    },
    {
      method: 'PUT',
      path: '/workflows/:model',
      summary: 'Scales the workers of a model, as PUT /models does.',
      query: ScaleParameters,
    },
    {
      method: 'GET',
      path: '/workflows/:model',
      summary: 'Describes a workflow: its nodes and their models.',
    },
    { method: 'DELETE', path: '/workflows/:model', summary: 'Unregisters a workflow and its models.' },
    {
      method: 'GET',
      path: '/server/logging',
      summary: 'Sets the level of the log.',
      query: LoggingParameters,
    },
  ],
  routes: managementRoutes,
};

async function managementRoutes(app: FastifyInstance, context: HttpContext): Promise<void> {
  const { logger, management, workflows } = context;
  addOptionalJsonParser(app);
  app.setValidatorCompiler(({ schema }) => parameterValidator(schema as TObject));
  setErrorWords(app, context, {
    counted: false,
    tell: (error) =>
      // DJLServing's own name for a model that can't be scaled yet.
      error.code === 'MODEL_NOT_READY'
        ? djlErrorWith(error, 503, 'ServiceUnavailableException')
        : djlError(error, FIXED_CODES),
  });

  const register = async (request: FastifyRequest, reply: FastifyReply) => {
    const { request: asked, synchronous } = registerRequest({
      ...(request.query as Static<typeof RegisterParameters>),
      ...(request.body as Static<typeof RegisterParameters>),
    });
    const registration = await management.register(asked).catch((error: unknown) => {
      // Where the url gives the name, the manager alone knows it.
      if (asked.name === undefined) throw error;
      const shown = asked.version === null ? asked.name : `${asked.name}:${asked.version}`;
      throw inWords(error, 'ALREADY_REGISTERED', () => `Workflow ${shown} is already registered.`);
    });
    const shown = `Model "${registration.name}"`;
    if (!synchronous) {
      registration.ready.catch((error: unknown) => {
        logger.error({ err: error, model: registration.name }, 'a scheduled registration failed');
      });
      return sendStatus(reply, 202, `${shown} registration scheduled.`);
    }
    await registration.ready;
    return sendStatus(reply, 200, `${shown} registered.`);
  };
  /** By its folder's own name, too. @param what DJLServing calls one that is not there. @throws ServingError MODEL_NOT_FOUND */
  const registered = (request: FastifyRequest, what = 'Model or workflow'): ModelTarget => {
    const { model, version } = addressed(request);
    const pools = management.list();
    const name = registeredName(pools, model, version);
    if (name === null)
      throw modelNotFound(what, { model, version }, [...pools, ...(workflows?.list() ?? [])]);
    return { model: name, version };
  };
  const describe = async (request: FastifyRequest, reply: FastifyReply) => {
    const { model, version } = registered(request, 'Workflow');
    return sendJson(reply, 200, describeBody(management.describe(model, version)));
  };
  const scale = async (request: FastifyRequest, reply: FastifyReply) => {
    const { model, version } = registered(request);
    const shown = shownAs(request);
    const given = request.query as Static<typeof ScaleParameters>;
    // Ours: a model that is FAILED, without waiting for its cool-down.
    if (given.retry === true) {
      await management.retry(model, version);
      return sendStatus(reply, 200, `Model or workflow "${shown}" serves`);
    }
    const told: string[] = [];
    if (given.weight !== undefined) {
      const { weight } = given;
      const share = management.setWeight(model, version, weight);
      told.push(
        `Workflow "${shown}" has weight ${weight}: ${percentOf(share)} of requests without a version`,
      );
      // Nothing else is asked: workers stay as they are, also of a model that still loads.
      if (Object.keys(scaleRequest(given)).length === 0) return sendStatus(reply, 200, told[0]!);
    }
    const scaled = await management.scale(model, version, scaleRequest(given)).catch((error: unknown) => {
      throw inWords(error, 'MODEL_NOT_READY', () => `Model or workflow is not ready: ${shown}`);
    });
    return sendStatus(reply, 200, [...told, scaledStatus(scaled)].join('\n'));
  };
  const unregister = async (request: FastifyRequest, reply: FastifyReply) => {
    const { model, version } = registered(request);
    await management.unregister(model, version);
    return sendStatus(reply, 200, `Model or workflow "${addressed(request).model}" unregistered`);
  };

  app.post('/models', { schema: { querystring: RegisterParameters, body: RegisterParameters } }, register);
  app.get('/models', { schema: { querystring: PageParameters } }, async (request, reply) => {
    const all = management.list();
    const { items, next } = pageOf(all, request.query as Static<typeof PageParameters>);
    return sendJson(reply, 200, modelsBody(items, next, all.length));
  });
  app.post(
    '/workflows',
    { schema: { querystring: WorkflowParameters, body: WorkflowParameters } },
    async (request, reply) => {
      const { name, synchronous, url } = workflowRequest({
        ...(request.query as Static<typeof WorkflowParameters>),
        ...(request.body as Static<typeof WorkflowParameters>),
      });
      if (workflows === undefined) throw new ServingError('BAD_REQUEST', 'Workflows are not served here');
      const registered = await workflows.register({ url, ...(name !== undefined && { name }) });
      const shown = `Workflow "${registered.name}"`;
      if (!synchronous) return sendStatus(reply, 202, `${shown} registration scheduled.`);
      await registered.ready;
      return sendStatus(reply, 200, `${shown} registered.`);
    },
  );
  app.get('/workflows', { schema: { querystring: PageParameters } }, async (request, reply) => {
    const all = [...management.list(), ...(workflows?.list() ?? [])].sort((a, b) =>
      a.name < b.name ? -1 : 1,
    );
    const { items, next } = pageOf(all, request.query as Static<typeof PageParameters>);
    return sendJson(reply, 200, workflowsBody(items, next, all.length));
  });
  for (const root of ['/models', '/workflows']) {
    for (const url of [`${root}/:model`, `${root}/:model/:version`]) {
      app.get(url, { schema: { params: ModelParams } }, (request, reply) => {
        const workflow = root === '/workflows' ? workflows?.find(addressed(request).model) : null;
        return workflow
          ? sendJson(reply, 200, workflowBody(workflow, management.list()))
          : describe(request, reply);
      });
      app.put(url, { schema: { params: ModelParams, querystring: ScaleParameters } }, scale);
      app.delete(url, { schema: { params: ModelParams } }, async (request, reply) => {
        const { model } = addressed(request);
        if (root !== '/workflows' || !workflows?.find(model)) return unregister(request, reply);
        await workflows.unregister(model);
        return sendStatus(reply, 200, `Model or workflow "${model}" unregistered`);
      });
    }
  }
  for (const url of ['/models/:model/adapters', '/models/:model/adapters/*', '/adapters', '/adapters/*']) {
    app.route({
      method: ANY_METHOD,
      url,
      handler: async () => {
        throw new ServingError('BAD_REQUEST', 'LoRA is not enabled.');
      },
    });
  }
  app.route({
    method: ANY_METHOD,
    url: '/server/logging',
    schema: { querystring: LoggingParameters },
    handler: async (request, reply) => {
      const { level = 'info' } = request.query as { level?: string };
      context.accessLog.info(
        { reqId: request.id, from: logger.level, to: level },
        'the level of the log is set',
      );
      logger.level = level;
      return sendStatus(reply, 200, 'OK');
    },
  });
}

function addressed(request: FastifyRequest): ModelTarget {
  const { model, version } = request.params as Addressed;
  return { model, version: version ?? null };
}

function shownAs(request: FastifyRequest): string {
  const { model, version } = request.params as Addressed;
  return version === undefined ? model : `${model}/${version}`;
}

/** An error of that code in DJLServing's words; any other as it is. */
function inWords(error: unknown, code: ErrorCode, words: () => string): unknown {
  if (!(error instanceof ServingError) || error.code !== code || error instanceof InvalidInput) return error;
  return new ServingError(code, words(), { cause: error });
}

const percentOf = (share: number): string => `${Number((share * 100).toFixed(1))} %`;

function sendStatus(reply: FastifyReply, code: number, status: string): FastifyReply {
  return sendJson(reply, code, { status });
}

function sendJson(reply: FastifyReply, code: number, body: unknown): FastifyReply {
  return reply.code(code).type('application/json').send(prettyJson(body));
}
