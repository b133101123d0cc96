/**
 * DJLServing's inference API: /predictions/{model}[/{version}], /invocations, /models/{model}/invoke, OPTIONS; all of
 * them also asynchronously.
 *
 * In      LMI's text-generation or text-embedding body (by the model), or an OpenAI body (by key); the method is not looked at, as in DJLServing
 * Out     {"generated_text": …}; with "stream": JSON lines, one a token; of an embedding model a list of vectors
 * Limits  the body limit; a stalled reader is dropped after chunked_read_timeout
 * Errors  {"code", "type", "message"} with the configurable codes; a valid JSON body that is no valid request: 424 {"code", "error"};
 *         a deadline that the client set itself (x-request-timeout-ms): 408
 * Source  DJLServing 0.36: InferenceRequestHandler; LMI's handlers for bodies
 *
 * Not here: on-the-fly registration (model_url_pattern is a refused key).
 */
import type { TSchema } from '@sinclair/typebox';
import { Type } from '@sinclair/typebox';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ServingError } from '../../../../proto/errors.js';
import { InvalidInput } from '../../../requests/invalid-input.js';
import { requestControl, spreadCustomAttributes, withVersion } from '../../../requests/request-control.js';
import { compileValidator } from '../../../requests/validation.js';
import type { WorkflowDescription } from '../../../requests/workflows.js';
import { answerNowOrLater, pollAnswer } from '../../answers/async-replies.js';
import { propertiesOf } from '../../answers/handler-answer.js';
import { ContentBody, NumpyBody, TensorBody } from '../../bodies/model-bodies.js';
import type { Dialect } from '../../dialect.js';
import { setErrorWords } from '../../error-handler.js';
import { prettyJson } from '../../errors.js';
import type { HttpContext } from '../../http-context.js';
import { djlTarget, ModelParams, ModelQuery, type ModelTarget, modelStatus } from '../../model-target.js';
import { answerWorkflow } from '../workflows/workflow-answer.js';
import { addDjlBodyParsers, checkDjlBody, type DjlBody } from './djl-body.js';
import { djlError, djlErrorWith, lmiInputError } from './djl-errors.js';
import { predict } from './djl-predict.js';
import { LmiBody } from './lmi-request.js';
import { answerSession, checkSessionBody, enterSession, type SessionBody } from './lmi-sessions.js';

const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'];
/** Stands for checkDjlBody: which schema holds depends on the body's keys. */
const PredictionBody = Type.Unknown();

export const djlDialect: Dialect = {
  name: 'djl',
  roles: ['inference'],
  access: ['infer'],
  words: { prefix: '/', error: djlError },
  // Its paths look at no method.
  refusesMethods: false,
  reference: [
    '/predictions/:model',
    '/predictions/:model/:version',
    '/models/:model/invoke',
    '/invocations',
  ].map((path) => ({
    ...{ method: 'POST', path, body: LmiBody, query: ModelQuery },
    summary:
      "DJLServing's LMI: a text (or texts) to continue, or to make vectors of; a body of prompt, messages or input is OpenAI's.",
    example: () => ({ inputs: 'Once upon a time', parameters: { max_new_tokens: 50 }, stream: true }),
    tasks: ['text-generation'],
    ...(path === '/invocations' && { exampleQuery: (model: string) => ({ model_name: model }) }),
  })),
  routes: djlRoutes,
};

async function djlRoutes(app: FastifyInstance, context: HttpContext): Promise<void> {
  const { config, service } = context;
  addDjlBodyParsers(app, (request) => takesContent(context, request));
  setErrorWords(app, context, {
    tell: (error, thrown, request) => {
      const inBody = (thrown as { validationContext?: unknown }).validationContext === 'body';
      if (inBody && error instanceof InvalidInput) return lmiInputError(error);
      const ownDeadline =
        error.code === 'REQUEST_TIMEOUT' && request.headers['x-request-timeout-ms'] !== undefined;
      return ownDeadline ? djlErrorWith(error, error.httpStatus) : djlError(error, config);
    },
  });
  app.setValidatorCompiler(({ schema, httpPart }) => {
    if (httpPart === 'body') return (value: unknown) => checkSessionBody(value) ?? checkDjlBody(value);
    const validator = compileValidator(schema as TSchema);
    return (value: unknown) => validator.check(value);
  });
  app.addHook('onRequest', async (request, reply) => {
    spreadCustomAttributes(request.headers);
    refuseUnservedHeaders(request);
    // Before the body is read: a poll has none.
    if (request.headers['x-starting-token'] !== undefined) return pollAnswer(context, request, reply);
    if (context.draining) throw new ServingError('SHUTTING_DOWN', 'The server is shutting down');
  });

  const target = (request: FastifyRequest): ModelTarget =>
    djlTarget(
      {
        params: (request.params ?? {}) as { model?: string; version?: string },
        query: request.query as { model_name?: string; model_version?: string },
        headers: request.headers,
        form: request.formFields,
      },
      service,
      context.singleStartupModel(),
    );

  const predictionRoute = (url: string, params: TSchema | null) => {
    const addressed = { querystring: ModelQuery, ...(params !== null && { params }) };
    app.route({
      method: METHODS,
      url,
      schema: { ...addressed, body: PredictionBody },
      // An answer that is there is given to the last.
      config: { refusesWhileDraining: true },
      // An unknown model is told before anything about the body.
      preValidation: async (request) => {
        if (workflowOf(context, request) !== null) {
          if (!(request.body instanceof ContentBody)) request.body = new ContentBody([]);
          return;
        }
        const task = modelStatus(context, target(request))?.task;
        if (task === 'handler') {
          // A request without a body never reached the parser.
          if (!(request.body instanceof ContentBody)) request.body = new ContentBody([]);
          return;
        }
        if (request.body instanceof ContentBody)
          throw new ServingError('MODEL_NOT_READY', 'The model has just changed; ask again');
        if (request.body instanceof NumpyBody && task !== 'tensors')
          throw new InvalidInput('Only a model of tensors takes arrays of NumPy', null);
        if (task !== 'tensors') return;
        if (request.isWholeText)
          throw new InvalidInput('A model of tensors takes application/json, tensor/npy or tensor/npz', null);
        request.body = new TensorBody(request.body);
      },
      handler: (request, reply) => {
        const workflow = workflowOf(context, request);
        if (workflow !== null) {
          const { accessKey, headers, id: requestId, log, query } = request;
          const { body } = request.body as Extract<DjlBody, { kind: 'content' }>;
          const origin = { requestId, ...requestControl(headers, accessKey) };
          const asked = { workflow, body, origin, properties: propertiesOf(headers, query) };
          return answerNowOrLater(context, request, reply, (client) =>
            answerWorkflow(context, context.workflows!, log, asked, client),
          );
        }
        const body = request.body as DjlBody | SessionBody;
        const named = target(request);
        const status = modelStatus(context, named);
        if (body.kind === 'session') return answerSession(context, request, reply, body, status);
        if (body.kind !== 'content' && body.kind !== 'tensors') enterSession(context, request, reply, status);
        const to = {
          requestId: request.id,
          ...withVersion(named, service, request.headers),
          ...requestControl(request.headers, request.accessKey),
        };
        return answerNowOrLater(context, request, reply, (client) =>
          predict(context, request, body, to, client),
        );
      },
    });
    app.route({
      method: 'OPTIONS',
      url,
      schema: addressed,
      handler: async (request, reply) => {
        target(request);
        return reply.type('application/json').send(prettyJson({}));
      },
    });
  };
  predictionRoute('/predictions/:model', ModelParams);
  predictionRoute('/predictions/:model/:version', ModelParams);
  predictionRoute('/models/:model/invoke', ModelParams);
  predictionRoute('/invocations', null);
}

/** @throws ServingError BAD_REQUEST */
function refuseUnservedHeaders({ headers, query }: FastifyRequest): void {
  if (headers.handler !== undefined || Object.hasOwn(query as object, 'handler')) {
    throw new ServingError('BAD_REQUEST', "The handler can't be overridden in a request");
  }
  const adapter = headers['x-amzn-sagemaker-adapter-identifier'];
  if (adapter !== undefined) {
    throw new ServingError(
      'BAD_REQUEST',
      'LoRA is not enabled: X-Amzn-SageMaker-Adapter-Identifier is not served',
    );
  }
}

/** The workflow that a path names; null: it names none. */
function workflowOf({ workflows }: HttpContext, { params }: FastifyRequest): WorkflowDescription | null {
  const { model } = (params ?? {}) as { model?: string };
  return model === undefined ? null : (workflows?.find(model) ?? null);
}

/** Before the body is read: a form's own fields do not say where a handler's request goes. */
function takesContent(context: HttpContext, request: FastifyRequest): boolean {
  const { params, query, headers } = request;
  if (workflowOf(context, request) !== null) return true;
  try {
    const places = { params: params ?? {}, query: query ?? {}, headers, form: new Map<string, string>() };
    const to = djlTarget(places, context.service, context.singleStartupModel());
    return modelStatus(context, to)?.task === 'handler';
  } catch {
    // Told in its place, with the whole request.
    return false;
  }
}
