/**
 * OpenAI's API: POST /v1/completions, POST /v1/chat/completions, GET /v1/models, GET /v1/models/{id}.
 *
 * In      JSON bodies as OpenAI's clients send them
 * Out     OpenAI's objects; streams as server-sent events ended by [DONE]
 * Errors  {"error": {message, type, param, code}}; a full queue is 429
 *
 * DJLServing answers /v1/chat/completions as /invocations, in JSON lines. OpenAI's clients can't read that, so this path speaks
 * OpenAI's SSE; DJLServing's framing is at /invocations. `model` may be left out while exactly one startup model is loaded.
 */
import type { TSchema } from '@sinclair/typebox';
import type { FastifyInstance } from 'fastify';
import type { ModelStatus } from '../jobs/generate-request.js';
import { InvalidInput, openAiError, toServingError } from './errors.js';
import type { HttpDeps } from './http-app.js';
import { ModelParams, openAiModelNotFound, openAiTarget } from './model-target.js';
import { answerChat, answerCompletion, SSE_FRAMING } from './openai-handlers.js';
import {
  type ChatBody,
  ChatBody as ChatSchema,
  type CompletionBody,
  CompletionBody as CompletionSchema,
  checkChatBody,
  checkCompletionBody,
  type Target,
} from './openai-request.js';
import { compileValidator } from './validation.js';

export async function openAiRoutes(app: FastifyInstance, deps: HttpDeps): Promise<void> {
  const { config, service } = deps;
  app.setErrorHandler((thrown, request, reply) => {
    const error = toServingError(thrown, config.maxRequestBytes);
    if (error.code === 'INTERNAL') request.log.error({ err: thrown }, 'a request failed');
    const { status, body } = openAiError(error);
    if (error.retryable && (status === 429 || status === 503)) reply.header('retry-after', '1');
    return reply.code(status).type('application/json').send(body);
  });
  app.setValidatorCompiler(({ schema }) => {
    if (schema === CompletionSchema) return checkCompletionBody;
    if (schema === ChatSchema) return checkChatBody;
    const validator = compileValidator(schema as TSchema);
    return (value: unknown) => validator.check(value);
  });
  // A body without a content type is JSON here; Fastify's own parser has the checks (prototype poisoning, empty body).
  app.addContentTypeParser('*', { parseAs: 'string' }, (request, text, done) => {
    const given = request.headers['content-type'];
    if (given === undefined || given === '') {
      app.getDefaultJsonParser('error', 'error')(request, text as string, done);
      return;
    }
    done(new InvalidInput(`Content-Type must be application/json, got ${given.slice(0, 80)}`, null));
  });

  const target = (requestId: string, model: string | undefined): Target => ({
    requestId,
    ...openAiTarget(model, service, deps.singleStartupModel()),
  });

  app.post('/v1/completions', { schema: { body: CompletionSchema } }, (request, reply) => {
    const body = request.body as CompletionBody;
    return answerCompletion(deps, request, reply, body, target(request.id, body.model), SSE_FRAMING);
  });
  app.post('/v1/chat/completions', { schema: { body: ChatSchema } }, (request, reply) => {
    const body = request.body as ChatBody;
    return answerChat(deps, request, reply, body, target(request.id, body.model), SSE_FRAMING);
  });
  app.get('/v1/models', async () => ({
    object: 'list',
    data: uniqueByName(service.models()).map(modelObject),
  }));
  app.get('/v1/models/:model', { schema: { params: ModelParams } }, async (request) => {
    const { model } = request.params as { model: string };
    const known = service.models().find((status) => status.name === model);
    if (known === undefined) throw openAiModelNotFound(model);
    return modelObject(known);
  });
}

function modelObject({ name, registeredAtMs }: ModelStatus) {
  return { id: name, object: 'model', created: Math.floor(registeredAtMs / 1000), owned_by: 'shardserve' };
}

/** Versions of a model are one model to OpenAI's clients. */
function uniqueByName(models: readonly ModelStatus[]): ModelStatus[] {
  return [...new Map(models.map((model) => [model.name, model])).values()];
}
