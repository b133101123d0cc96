/**
 * OpenAI's API: POST /v1/completions, POST /v1/chat/completions, POST /v1/embeddings, GET /v1/models, GET /v1/models/{id}.
 *
 * In      JSON bodies as OpenAI's clients send them
 * Out     OpenAI's objects; streams as server-sent events ended by [DONE]
 * Errors  {"error": {message, type, param, code}}; a full queue is 429
 *
 * DJLServing answers /v1/chat/completions as /invocations, in JSON lines. OpenAI's clients can't read that, so this path speaks
 * OpenAI's SSE; DJLServing's framing is at /invocations. Its asynchronous mode (async-replies.ts) is here too.
 * `model` may be left out while exactly one startup model is loaded.
 */
import { type TSchema, Type } from '@sinclair/typebox';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import {
  type CompletionBody,
  CompletionBody as CompletionSchema,
  checkCompletionBody,
} from '../../../requests/completion-request.js';
import { InvalidInput } from '../../../requests/invalid-input.js';
import { requestControl, spreadCustomAttributes, withVersion } from '../../../requests/request-control.js';
import type { ModelStatus } from '../../../requests/service.js';
import type { Target } from '../../../requests/target.js';
import { compileValidator } from '../../../requests/validation.js';
import { answerNowOrLater, pollAnswer } from '../../answers/async-replies.js';
import { jsonBodyParser } from '../../bodies/json-body.js';
import type { Dialect } from '../../dialect.js';
import { setErrorWords } from '../../error-handler.js';
import type { HttpContext } from '../../http-context.js';
import {
  ModelParams,
  modelStatus,
  namedModel,
  openAiModelNotFound,
  openAiTarget,
} from '../../model-target.js';
import { anthropicModel, anthropicModels, asksAsAnthropic } from '../anthropic/model-list.js';
import { type ChatBody, ChatBody as ChatSchema, checkChatBody } from './chat-request.js';
import {
  answerEmbeddings,
  checkEmbeddingBody,
  type EmbeddingBody,
  EmbeddingBody as EmbeddingSchema,
} from './openai-embeddings.js';
import { openAiError } from './openai-errors.js';
import { answerChat, answerCompletion, answerResponse, SSE_FRAMING } from './openai-handlers.js';

import { POOLING_REFERENCE, poolingRoutes } from './vllm-pooling.js';
import { VLLM_REFERENCE, vllmRoutes } from './vllm-routes.js';

/** What tells where it goes and how; the rest is a chat's (responses-request.ts). */
const ResponseBody = Type.Object({
  model: Type.Optional(Type.String({ minLength: 1, maxLength: 512 })),
  stream: Type.Optional(Type.Boolean()),
});

/** For readers; what is checked is the chat that it becomes. */
const ResponseFields = Type.Object({
  input: Type.Union([Type.String(), Type.Array(Type.Unknown())]),
  ...ResponseBody.properties,
  ...Object.fromEntries(
    [
      ...[
        'instructions',
        'max_output_tokens',
        'tools',
        'tool_choice',
        'parallel_tool_calls',
        'text',
        'reasoning',
      ],
      ...['temperature', 'top_p', 'top_k', 'seed', 'chat_template_kwargs'],
    ].map((name) => [name, Type.Optional(Type.Unknown())]),
  ),
});

const DEFAULT_RETRY_AFTER_SECONDS = 1;

export const openAiDialect: Dialect = {
  name: 'openai',
  roles: ['inference'],
  access: ['infer'],
  words: { prefix: '/v1/', error: openAiError },
  refusesMethods: true,
  // CORS preflight, as DJLServing answers it for its own paths.
  preflight: '{}',
  reference: [
    {
      ...{ method: 'POST', path: '/v1/completions', summary: 'Continues a text.', body: CompletionSchema },
      example: (model) => ({ model, prompt: 'Once upon a time', max_tokens: 50 }),
      tasks: ['text-generation'],
    },
    {
      ...{ method: 'POST', path: '/v1/chat/completions', summary: 'Answers a chat.', body: ChatSchema },
      example: (model) => ({ model, messages: [{ role: 'user', content: 'Hello' }], max_tokens: 50 }),
      tasks: ['text-generation'],
      isChat: true,
    },
    {
      ...{ method: 'POST', path: '/v1/embeddings', summary: 'Vectors of texts.', body: EmbeddingSchema },
      example: (model) => ({ model, input: ['a text', 'another'] }),
      tasks: ['text-embedding'],
    },
    {
      ...{
        method: 'POST',
        path: '/v1/responses',
        summary: "A chat as OpenAI's Responses have it.",
        body: ResponseFields,
      },
      example: (model) => ({ model, input: 'Hello', max_output_tokens: 50 }),
      tasks: ['text-generation'],
      isChat: true,
    },
    ...POOLING_REFERENCE,
    { method: 'GET', path: '/v1/models', summary: 'Every model.' },
    { method: 'GET', path: '/v1/models/:model', summary: 'One model.' },
    ...VLLM_REFERENCE,
  ],
  routes: openAiRoutes,
};

async function openAiRoutes(app: FastifyInstance, context: HttpContext): Promise<void> {
  const { service } = context;
  setErrorWords(app, context, { tell: openAiError, retryAfterSeconds: DEFAULT_RETRY_AFTER_SECONDS });
  app.setValidatorCompiler(({ schema }) => {
    if (schema === CompletionSchema) return checkCompletionBody;
    if (schema === ChatSchema) return checkChatBody;
    if (schema === EmbeddingSchema) return checkEmbeddingBody;
    const validator = compileValidator(schema as TSchema);
    return (value: unknown) => validator.check(value);
  });
  const parseJson = jsonBodyParser(app);
  app.removeContentTypeParser('application/json');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, text, done) =>
    parseJson(request, text as string, done),
  );
  // A body without a content type is JSON here.
  app.addContentTypeParser('*', { parseAs: 'string' }, (request, text, done) => {
    const given = request.headers['content-type'];
    if (given === undefined || given === '') {
      parseJson(request, text as string, done);
      return;
    }
    done(new InvalidInput(`Content-Type must be application/json, got ${given.slice(0, 80)}`, null));
  });

  const target = ({ accessKey, id, headers }: FastifyRequest, model: string | undefined): Target => ({
    requestId: id,
    ...withVersion(openAiTarget(model, service, context.singleStartupModel()), service, headers),
    ...requestControl(headers, accessKey),
  });
  app.addHook('onRequest', async (request, reply) => {
    spreadCustomAttributes(request.headers);
    // Before the body is read: a poll has none.
    if (request.headers['x-starting-token'] !== undefined) return pollAnswer(context, request, reply);
  });

  app.post('/v1/completions', { schema: { body: CompletionSchema } }, (request, reply) => {
    const body = request.body as CompletionBody;
    const to = target(request, body.model);
    return answerNowOrLater(context, request, reply, (client) =>
      answerCompletion(context, request.log, body, to, SSE_FRAMING, client),
    );
  });
  app.post('/v1/chat/completions', { schema: { body: ChatSchema } }, (request, reply) => {
    const body = request.body as ChatBody;
    const to = target(request, body.model);
    return answerNowOrLater(context, request, reply, (client) =>
      answerChat(context, request.log, body, to, SSE_FRAMING, client),
    );
  });
  app.post('/v1/responses', { schema: { body: ResponseBody } }, (request, reply) => {
    const body = request.body as Record<string, unknown>;
    const to = target(request, body.model as string | undefined);
    return answerNowOrLater(context, request, reply, (client) =>
      answerResponse(context, request.log, body, to, client),
    );
  });
  app.post('/v1/embeddings', { schema: { body: EmbeddingSchema } }, (request, reply) => {
    const body = request.body as EmbeddingBody;
    const to = target(request, body.model);
    return answerNowOrLater(context, request, reply, (client) => answerEmbeddings(context, body, to, client));
  });
  app.get('/v1/models', async ({ headers }) => {
    const models = uniqueByName(service.models());
    if (asksAsAnthropic(headers)) return anthropicModels(models);
    return {
      object: 'list',
      data: [
        ...models.map((status) => modelObject(status, status.name)),
        ...service.models().flatMap((status) => versionObject(status)),
      ],
    };
  });
  app.get('/v1/models/:model', { schema: { params: ModelParams } }, async (request) => {
    const { model } = request.params as { model: string };
    const found = namedModel(service, model);
    const known = found === null ? undefined : modelStatus(context, found);
    if (found === null || known === undefined) throw openAiModelNotFound(model, service);
    if (asksAsAnthropic(request.headers)) return anthropicModel(known, model);
    const told = found.version === null ? modelObject(known, known.name) : versionObject(known)[0];
    // KServe's V1 protocol asks the same path whether the model is ready.
    return { ...told, name: known.name, ready: known.state === 'READY' };
  });
  vllmRoutes(app, context, target);
  poolingRoutes(app, context, target);
}

function modelObject({ contextLength, name, registeredAtMs }: ModelStatus, id: string) {
  return {
    id,
    object: 'model',
    created: Math.floor(registeredAtMs / 1000),
    owned_by: 'shardserve',
    root: name,
    parent: null,
    max_model_len: contextLength === 0 ? null : contextLength,
  };
}

/** A version by itself: what it comes of is the name, which all of them share. */
function versionObject(status: ModelStatus) {
  const { name, version } = status;
  return version === null ? [] : [{ ...modelObject(status, `${name}:${version}`), parent: name }];
}

/** Versions of a model are one model to OpenAI's clients, which may also name one of them. */
function uniqueByName(models: readonly ModelStatus[]): ModelStatus[] {
  return [...new Map(models.map((model) => [model.name, model])).values()];
}
