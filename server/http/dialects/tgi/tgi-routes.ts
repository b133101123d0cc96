/**
 * Text Generation Inference's own API: /generate, /generate_stream, POST /, /chat_tokenize and /info; /tokenize is shared with vLLM's
 * (vllm-routes.ts).
 *
 * In      tgi-request.ts; the model is the only one of the start, or `model` names one
 * Out     {"generated_text", "details"?}; POST / in a list; a stream: server-sent events, one a token
 * Limits  the body limit; a stalled reader is dropped after chunked_read_timeout
 * Errors  {"error", "error_type"}: 422, 429, 424, 503, else the table's status
 * Source  Text Generation Inference's router
 */
import { type Static, type TSchema, Type } from '@sinclair/typebox';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { requestControl, withVersion } from '../../../requests/request-control.js';
import { compileValidator } from '../../../requests/validation.js';
import { type Answer, sendAnswer } from '../../answers/answer.js';
import { collectAll, submitAll } from '../../answers/generations.js';
import { clientSignal, logStreamError, withErrorFrames } from '../../answers/stream-reply.js';
import { jsonBodyParser } from '../../bodies/json-body.js';
import type { Dialect } from '../../dialect.js';
import { setErrorWords } from '../../error-handler.js';
import type { HttpContext } from '../../http-context.js';
import { openAiTarget } from '../../model-target.js';
import { chatMessages, Message } from '../openai/chat-messages.js';
import { chatOptions } from '../openai/chat-request.js';
import { ToolFields } from '../openai/chat-tools.js';
import { withOwnIds } from '../openai/openai-handlers.js';
import { tokensOfModel } from '../openai/vllm-routes.js';
import { tgiError } from './tgi-errors.js';
import { checkTgiBody, MAX_BEST_OF, MAX_STOPS, TgiBody, tgiFormat, tgiRequests } from './tgi-request.js';
import { tgiAnswer, tgiErrorFrame, tgiFrames } from './tgi-response.js';
import { tgiTokens } from './tgi-tokens.js';

const example = (model: string) => ({
  model,
  inputs: 'Once upon a time',
  parameters: { max_new_tokens: 20 },
});
const tasks = ['text-generation'] as const;
const ChatTokenizeBody = Type.Object({
  model: Type.Optional(Type.String({ minLength: 1, maxLength: 512 })),
  messages: Type.Array(Message, { minItems: 1, maxItems: 4096 }),
  tools: ToolFields.tools,
});

export const tgiDialect: Dialect = {
  name: 'tgi',
  roles: ['inference'],
  access: ['infer'],
  // A text, and what is asked of it: no model's context is near.
  longestBody: 16_777_216,
  refusesMethods: false,
  reference: [
    {
      ...{
        method: 'POST',
        path: '/generate',
        summary: "Continues a text (Text Generation Inference's API).",
      },
      ...{ body: TgiBody, example, tasks },
    },
    {
      ...{ method: 'POST', path: '/generate_stream', summary: 'The same, an event a token.' },
      ...{ body: TgiBody, example, tasks },
    },
    {
      ...{
        method: 'POST',
        path: '/',
        summary: 'The same as /generate, in a list; as /generate_stream with "stream": true.',
      },
      ...{ body: TgiBody, example, tasks },
    },
    {
      ...{ method: 'POST', path: '/chat_tokenize', summary: 'The tokens of a chat, and its text.' },
      ...{ body: ChatTokenizeBody, tasks },
      example: (model) => ({ model, messages: [{ role: 'user', content: 'Hello' }] }),
    },
    { method: 'GET', path: '/info', summary: 'The model that /generate asks, and its limits.' },
  ],
  routes: tgiRoutes,
};

async function tgiRoutes(app: FastifyInstance, context: HttpContext): Promise<void> {
  const { config, service } = context;
  const parseJson = jsonBodyParser(app);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'string' }, (request, text, done) =>
    parseJson(request, text as string, done),
  );
  setErrorWords(app, context, { tell: tgiError });
  app.setValidatorCompiler(({ schema }) => {
    if (schema === TgiBody) return checkTgiBody;
    const validator = compileValidator(schema as TSchema);
    return (value: unknown) => validator.check(value);
  });

  const answer = async (request: FastifyRequest, reply: FastifyReply, streamed: boolean, listed: boolean) => {
    const body = request.body as TgiBody;
    const to = {
      requestId: request.id,
      ...withVersion(
        openAiTarget(body.model, service, context.singleStartupModel()),
        service,
        request.headers,
      ),
      ...requestControl(request.headers, request.accessKey),
    };
    const client = clientSignal(reply);
    const format = tgiFormat(body);
    const requests = withOwnIds(tgiRequests(body, to, streamed));
    const generations = await submitAll(service, requests, client);
    const whole = async () => {
      const told = tgiAnswer(await collectAll(generations, client), body.inputs, format);
      return listed ? [told] : told;
    };
    const [first] = generations;
    const frames = () =>
      withErrorFrames(
        tgiFrames(first!.events, body.inputs, format, first!.promptTokens),
        (error) => [tgiErrorFrame(error)],
        (error) => {
          client.abort();
          context.countError(error, error.httpStatus);
          logStreamError(request.log, error);
        },
      );
    const made: Answer = streamed
      ? { kind: 'stream', contentType: 'text/event-stream', frames: frames() }
      : { kind: 'value', make: whole };
    return sendAnswer(reply, made, config.chunkedReadTimeoutSeconds * 1000);
  };
  const schema = { body: TgiBody };
  app.post('/generate', { schema }, (request, reply) => answer(request, reply, false, false));
  app.post('/generate_stream', { schema }, (request, reply) => answer(request, reply, true, false));
  // As the hub's own clients ask.
  app.post('/', { schema }, (request, reply) =>
    answer(request, reply, (request.body as TgiBody).stream === true, true),
  );
  app.post('/chat_tokenize', { schema: { body: ChatTokenizeBody } }, async (request, reply) => {
    const { messages, model, ...options } = request.body as Static<typeof ChatTokenizeBody>;
    const to = withVersion(
      openAiTarget(model, service, context.singleStartupModel()),
      service,
      request.headers,
    );
    const tokens = tokensOfModel(service, to);
    const prompt = { kind: 'chat' as const, messages: chatMessages(messages), ...chatOptions(options) };
    const tokenize_response = await tgiTokens(tokens, prompt, undefined, clientSignal(reply).signal);
    return { tokenize_response, templated_text: tokenize_response.map(({ text }) => text).join('') };
  });
  app.get('/info', async () => {
    const { model } = openAiTarget(undefined, service, context.singleStartupModel());
    const status = service.models().find(({ name }) => name === model);
    return {
      model_id: model,
      model_sha: null,
      model_pipeline_tag: status?.task ?? null,
      max_best_of: MAX_BEST_OF,
      max_stop_sequences: MAX_STOPS,
      max_input_tokens: Math.max(0, (status?.contextLength ?? 0) - 1),
      max_total_tokens: status?.contextLength ?? 0,
      max_client_batch_size: 1,
      router: 'shardserve',
      version: '2',
      sha: null,
      docker_label: null,
    };
  });
}
