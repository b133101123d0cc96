/**
 * TorchServe's inference API: /ping, /predictions, /invocations, /models/{model}/invoke, the older /{model}/predict,
 * KServe's /v1/models/{model}:predict and :explain, /api-description.
 *
 * In      any body, by the model: a handler's as it came; JSON or text for a language model; tensors. The method is not looked at
 * Out     the handler's answer; a language model's text for text, LMI's or OpenAI's object for JSON
 * Limits  the body limit; a stalled reader is dropped after chunked_read_timeout
 * Errors  {"code", "type", "message"} in TorchServe's words
 * Source  TorchServe's inference API; its vLLM handler's /predictions/{model}/{version}/v1/…
 */
import type { TSchema } from '@sinclair/typebox';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ServingError } from '../../../../proto/errors.js';
import { checkCompletionBody } from '../../../requests/completion-request.js';
import { requestControl, spreadCustomAttributes } from '../../../requests/request-control.js';
import type { Target } from '../../../requests/target.js';
import { compileValidator } from '../../../requests/validation.js';
import { sendAnswer } from '../../answers/answer.js';
import { clientSignal } from '../../answers/stream-reply.js';
import { ContentBody } from '../../bodies/model-bodies.js';
import type { Dialect } from '../../dialect.js';
import { setErrorWords } from '../../error-handler.js';
import { prettyJson } from '../../errors.js';
import type { HttpContext } from '../../http-context.js';
import { ModelParams, ModelQuery, modelStatus } from '../../model-target.js';
import { LmiBody } from '../djl/lmi-request.js';
import { checkChatBody } from '../openai/chat-request.js';
import { answerChat, answerCompletion, SSE_FRAMING } from '../openai/openai-handlers.js';
import { API_DESCRIPTION, modelDescription } from './api-description.js';
import { health } from './health.js';
import { answerKServe, explainKServe } from './kserve-answer.js';
import { addPredictionParsers } from './prediction-body.js';
import { answerPrediction } from './torchserve-answer.js';
import { torchServeError } from './torchserve-errors.js';
import type { TorchServeModels } from './torchserve-models.js';

const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'];
const PREDICTION_PATHS = [
  '/predictions/:model',
  '/predictions/:model/:version',
  '/predictions/:model/:version/*',
  '/models/:model/invoke',
  '/:model/predict',
  '/:model/:version/predict',
] as const;

export const torchServeInference = (models: TorchServeModels): Dialect => ({
  name: 'torchserve',
  roles: ['inference'],
  access: ['infer'],
  words: { prefix: '/', error: torchServeError },
  refusesMethods: false,
  reference: PREDICTION_PATHS.slice(0, 2).map((path) => ({
    ...{ method: 'POST', path, body: LmiBody, query: ModelQuery },
    summary: "TorchServe's predictions: any body for a handler, text or JSON for a language model.",
    example: () => ({ inputs: 'Once upon a time', parameters: { max_new_tokens: 50 } }),
  })),
  routes: (app, context) => inferenceRoutes(app, context, models),
});

async function inferenceRoutes(
  app: FastifyInstance,
  context: HttpContext,
  models: TorchServeModels,
): Promise<void> {
  const { config } = context;
  addPredictionParsers(app, (request) => takesContent(context, models, request));
  setErrorWords(app, context, { tell: torchServeError });
  app.setValidatorCompiler(({ schema }) => {
    const validator = compileValidator(schema as TSchema);
    return (value: unknown) => validator.check(value);
  });
  app.addHook('onRequest', async ({ headers }) => spreadCustomAttributes(headers));

  app.route({
    method: [...METHODS, 'OPTIONS'],
    url: '/ping',
    handler: async (_request, reply) => {
      const status = health(context.management.list());
      return reply
        .code(status === 'Healthy' ? 200 : 500)
        .type('application/json')
        .send(prettyJson({ status }));
    },
  });
  const description = { config: { access: 'open' as const } };
  const describe = async (_request: FastifyRequest, reply: FastifyReply) =>
    reply.type('application/json').send(prettyJson(API_DESCRIPTION));
  app.options('/', description, describe);
  app.route({ ...description, method: METHODS, url: '/api-description', handler: describe });

  for (const url of PREDICTION_PATHS) {
    const schema = { params: ModelParams, querystring: ModelQuery };
    app.route({ method: METHODS, url, schema, handler: answer });
    app.options(url, { schema }, async (request, reply) =>
      reply.type('application/json').send(prettyJson(modelDescription(place(request).model))),
    );
  }
  app.route({
    method: METHODS,
    url: '/invocations',
    schema: { querystring: ModelQuery },
    handler: answer,
  });
  app.post('/v1/models/:target', { schema: {} }, async (request, reply) => {
    const [, model, verb] =
      /^(.+):(predict|explain)$/.exec((request.params as { target: string }).target) ?? [];
    if (model === undefined) throw new ServingError('ROUTE_NOT_FOUND', 'There is no such path');
    const target = targetOf(request, model, null);
    const answered = verb === 'explain' ? explainKServe : answerKServe;
    return reply.send(await answered(context, request, target, clientSignal(reply)));
  });

  /** Where a request goes: its version resolved, so that all that follows means the same one. @throws ServingError */
  function place(request: FastifyRequest): { model: string; asked: string | null } {
    const params = (request.params ?? {}) as { model?: string; version?: string };
    const { model_name: inQuery } = (request.query ?? {}) as { model_name?: string };
    const model = params.model ?? inQuery ?? context.singleStartupModel();
    const { version = null } = params;
    if (model === null) throw new ServingError('BAD_REQUEST', 'Parameter model_name is required.');
    models.find(model, version);
    return { model, asked: version };
  }

  function targetOf(request: FastifyRequest, model: string, version: string | null): Target {
    const found = models.find(model, version);
    return {
      ...{ requestId: request.id, model, version: found.version },
      ...requestControl(request.headers, request.accessKey),
    };
  }

  async function answer(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const { asked, model } = place(request);
    const target = targetOf(request, model, asked);
    const rest = (request.params as { '*'?: string })['*'] ?? '';
    const client = clientSignal(reply);
    const stallLimitMs = config.chunkedReadTimeoutSeconds * 1000;
    const task = modelStatus(context, target)?.task;
    if (rest !== '' && task === 'text-generation')
      return sendAnswer(reply, await answerOpenAi(context, request, rest, target, client), stallLimitMs);
    const headers = { ...request.headers, explain: 'False', ...(rest !== '' && { url_path: rest }) };
    const isBare = task === 'handler' && !(request.body instanceof ContentBody);
    const body = isBare ? new ContentBody([]) : request.body;
    const { log, query } = request;
    const made = await answerPrediction(context, { headers, log, query }, body, target, asked, client);
    return sendAnswer(reply, made, stallLimitMs);
  }
}

/** OpenAI's paths below a model, as TorchServe's vLLM handler has them. @throws ServingError */
function answerOpenAi(
  context: HttpContext,
  { body, log }: FastifyRequest,
  rest: string,
  target: Target,
  client: AbortController,
) {
  if (rest === 'v1/models') {
    const listed = { id: target.model, object: 'model', owned_by: 'shardserve' };
    const make = async () => ({ object: 'list', data: [listed] });
    return { kind: 'value' as const, make };
  }
  if (rest === 'v1/completions') {
    const checked = checkCompletionBody(body);
    if ('error' in checked) throw checked.error;
    return answerCompletion(context, log, checked.value, target, SSE_FRAMING, client);
  }
  if (rest === 'v1/chat/completions') {
    const checked = checkChatBody(body);
    if ('error' in checked) throw checked.error;
    return answerChat(context, log, checked.value, target, SSE_FRAMING, client);
  }
  throw new ServingError('ROUTE_NOT_FOUND', 'There is no such path');
}

/** Before the body is read. An unknown model is told in its place. */
function takesContent(context: HttpContext, models: TorchServeModels, request: FastifyRequest): boolean {
  const params = (request.params ?? {}) as { model?: string; version?: string; target?: string };
  const { model_name: inQuery } = (request.query ?? {}) as { model_name?: string };
  const model = params.model ?? inQuery ?? context.singleStartupModel();
  // KServe's wrapping is read here, whatever the model.
  if (model === null || params.target !== undefined) return false;
  const { version = null } = params;
  try {
    const { version: found } = models.find(model, version);
    return modelStatus(context, { model, version: found })?.task === 'handler';
  } catch {
    return false;
  }
}
