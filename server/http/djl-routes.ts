/**
 * DJLServing's inference API: /predictions/{model}[/{version}], /invocations, /models/{model}/invoke, /ping, OPTIONS.
 *
 * In      LMI's text-generation body, or an OpenAI body (by key); the method is not looked at, as in DJLServing
 * Out     {"generated_text": …}; with "stream": JSON lines, one a token
 * Limits  the body limit; a stalled reader is dropped after chunked_read_timeout
 * Errors  {"code", "type", "message"} with the configurable codes; a valid JSON body that is no valid request: 424 {"code", "error"}
 * Source  reference serving-apis §1.2–1.6, §3
 *
 * Not here: paginated answers (x-synchronous: false) and on-the-fly registration; they are refused, not misunderstood.
 */
import type { TSchema } from '@sinclair/typebox';
import { Type } from '@sinclair/typebox';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ServingError } from '../../proto/errors.js';
import { addDjlBodyParsers, checkDjlBody, type DjlBody } from './djl-body.js';
import { djlError, InvalidInput, lmiInputError, prettyJson, toServingError } from './errors.js';
import { collectAll, submitAll } from './generations.js';
import type { HttpDeps } from './http-app.js';
import { type LmiBody, lmiFormat, lmiRequest, unknownParameters } from './lmi-request.js';
import { linesAsSse, lmiAnswer, lmiErrorLine, lmiLines } from './lmi-response.js';
import { djlTarget, ModelParams, ModelQuery, type ModelTarget } from './model-target.js';
import { answerChat, answerCompletion, JSON_LINES_FRAMING, withOwnIds } from './openai-handlers.js';
import type { Target } from './openai-request.js';
import { ping } from './ping.js';
import { clientSignal, sendFrames, withErrorFrames } from './stream-reply.js';
import { compileValidator } from './validation.js';

const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'];
/** Stands for checkDjlBody: which schema holds depends on the body's keys. */
const PredictionBody = Type.Unknown();

export async function djlRoutes(app: FastifyInstance, deps: HttpDeps): Promise<void> {
  const { config, service } = deps;
  addDjlBodyParsers(app);
  app.setErrorHandler((thrown, request, reply) => {
    const error = toServingError(thrown, config.maxRequestBytes);
    if (error.code === 'INTERNAL') request.log.error({ err: thrown }, 'a request failed');
    const inBody = (thrown as { validationContext?: unknown }).validationContext === 'body';
    const { status, body } =
      inBody && error instanceof InvalidInput ? lmiInputError(error) : djlError(error, config);
    return reply.code(status).type('application/json').send(body);
  });
  app.setValidatorCompiler(({ schema, httpPart }) => {
    if (httpPart === 'body') return checkDjlBody;
    const validator = compileValidator(schema as TSchema);
    return (value: unknown) => validator.check(value);
  });
  app.addHook('onRequest', async (request) => refuseUnservedHeaders(request));

  const target = (request: FastifyRequest): ModelTarget =>
    djlTarget(
      {
        params: (request.params ?? {}) as { model?: string; version?: string },
        query: request.query as { model_name?: string; model_version?: string },
        headers: request.headers,
        form: request.formFields,
      },
      service,
      deps.singleStartupModel(),
    );

  const predictionRoute = (url: string, params: TSchema | null) => {
    const addressed = { querystring: ModelQuery, ...(params !== null && { params }) };
    app.route({
      method: METHODS,
      url,
      schema: { ...addressed, body: PredictionBody },
      // An unknown model is told before anything about the body.
      preValidation: async (request) => {
        target(request);
      },
      handler: (request, reply) =>
        predict(deps, request, reply, { requestId: request.id, ...target(request) }),
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

  app.options('/', async (_request, reply) => reply.type('application/json').send(prettyJson({})));
  app.route({
    method: [...METHODS, 'OPTIONS'],
    url: '/ping',
    handler: async (_request, reply) => {
      const { status, body } = ping(service.models(), config.allowMultiStatus);
      return reply.code(status).type('application/json').send(prettyJson(body));
    },
  });
}

/** @throws ServingError BAD_REQUEST */
function refuseUnservedHeaders({ headers, query }: FastifyRequest): void {
  if (headers.handler !== undefined || Object.hasOwn(query as object, 'handler')) {
    throw new ServingError('BAD_REQUEST', "The handler can't be overridden in a request");
  }
  if (headers['x-synchronous'] === 'false' || headers['x-starting-token'] !== undefined) {
    throw new ServingError(
      'BAD_REQUEST',
      'Paginated answers (x-synchronous: false, x-starting-token) are not supported: stream instead',
    );
  }
  const adapter = headers['x-amzn-sagemaker-adapter-identifier'];
  if (adapter !== undefined) {
    throw new ServingError(
      'BAD_REQUEST',
      'LoRA is not enabled: X-Amzn-SageMaker-Adapter-Identifier is not served',
    );
  }
}

function predict(deps: HttpDeps, request: FastifyRequest, reply: FastifyReply, target: Target) {
  const prediction = request.body as DjlBody;
  switch (prediction.kind) {
    case 'chat':
      return answerChat(deps, request, reply, prediction.body, target, JSON_LINES_FRAMING);
    case 'completion':
      return answerCompletion(deps, request, reply, prediction.body, target, JSON_LINES_FRAMING);
    case 'lmi':
      return answerLmi(deps, request, reply, prediction.body, target);
  }
}

async function answerLmi(
  { config, service }: HttpDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  body: LmiBody,
  target: Target,
): Promise<FastifyReply> {
  const dropped = unknownParameters(body);
  if (dropped.length > 0)
    request.log.warn({ parameters: dropped.slice(0, 20) }, 'unknown parameters are dropped');
  const formatter = service.models().find(({ name }) => name === target.model)?.outputFormatter ?? null;
  // A formatter that the model's configuration names wins over the request's `stream`; a list has no stream.
  const many = Array.isArray(body.inputs);
  const streamed = !many && (formatter === null ? body.stream === true : formatter !== 'json');
  const texts = Array.isArray(body.inputs) ? body.inputs : [body.inputs];
  const requests = withOwnIds(texts.map((text) => lmiRequest(body, text, target, streamed)));
  const format = lmiFormat(body);
  const client = clientSignal(reply);
  const generations = await submitAll(service, requests, client);
  if (!streamed) {
    const answers = (await collectAll(generations, client)).map((each, index) =>
      lmiAnswer(each, texts[index]!, format),
    );
    return reply.send(many ? answers : answers[0]);
  }
  const prompt = texts[0]!;
  const lines = withErrorFrames(
    lmiLines(generations[0]!.events, prompt, format),
    (error) => [lmiErrorLine(error, prompt)],
    (error) => {
      client.abort();
      request.log.error({ err: error }, 'a stream ended with an error');
    },
  );
  const stallLimitMs = config.chunkedReadTimeoutSeconds * 1000;
  if (formatter !== 'sse') return sendFrames(reply, 'application/jsonlines', lines, stallLimitMs);
  return sendFrames(reply, 'text/event-stream', linesAsSse(lines), stallLimitMs);
}
