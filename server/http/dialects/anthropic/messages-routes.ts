/**
 * Anthropic's API, as coding agents speak it: POST /v1/messages, POST /v1/messages/count_tokens.
 *
 * In      JSON bodies as Anthropic's clients send them
 * Out     messages; streams as server-sent events
 * Errors  {"type": "error", "error": {"type", "message"}}
 * Source  Anthropic API reference (messages, errors)
 */
import { type Static, Type } from '@sinclair/typebox';
import type { FastifyInstance } from 'fastify';
import type { ErrorCode, ServingError } from '../../../../proto/errors.js';
import { requestControl, withVersion } from '../../../requests/request-control.js';
import type { Target } from '../../../requests/target.js';
import { compileValidator } from '../../../requests/validation.js';
import type { Answer } from '../../answers/answer.js';
import { answerNowOrLater } from '../../answers/async-replies.js';
import { clientSignal, logStreamError, withErrorFrames } from '../../answers/stream-reply.js';
import { jsonBodyParser } from '../../bodies/json-body.js';
import type { Dialect } from '../../dialect.js';
import { setErrorWords } from '../../error-handler.js';
import type { ErrorAnswer } from '../../errors.js';
import type { HttpContext } from '../../http-context.js';
import { openAiTarget } from '../../model-target.js';
import { chatMessages } from '../openai/chat-messages.js';
import { chatOptions, checkChatBody } from '../openai/chat-request.js';
import { runChat } from '../openai/chat-run.js';
import { messageEvents, messageHead, sentEvent, wholeMessage } from './messages-answer.js';
import { chatOfMessages } from './messages-request.js';

/** For readers; what is checked is the chat that it becomes (messages-request.ts). */
const MessagesFields = Type.Object({
  model: Type.Optional(Type.String()),
  max_tokens: Type.Integer({ minimum: 1 }),
  messages: Type.Array(Type.Object({ role: Type.String(), content: Type.Unknown() }), { minItems: 1 }),
  ...Object.fromEntries(
    [
      ...[
        'system',
        'tools',
        'tool_choice',
        'thinking',
        'stop_sequences',
        'temperature',
        'top_p',
        'top_k',
        'stream',
      ],
      ...['output_config', 'output_format', 'chat_template_kwargs'],
    ].map((name) => [name, Type.Optional(Type.Unknown())]),
  ),
});

export const anthropicDialect: Dialect = {
  name: 'anthropic',
  roles: ['inference'],
  access: ['infer'],
  // A text, and what is asked of it: no model's context is near.
  longestBody: 16_777_216,
  words: { prefix: '/v1/messages', error: anthropicError },
  refusesMethods: true,
  preflight: '{}',
  reference: [
    {
      ...{
        method: 'POST',
        path: '/v1/messages',
        summary: "A chat as Anthropic's API has it.",
        body: MessagesFields,
      },
      example: (model) => ({ model, max_tokens: 50, messages: [{ role: 'user', content: 'Hello' }] }),
      tasks: ['text-generation'],
      isChat: true,
    },
    {
      ...{
        method: 'POST',
        path: '/v1/messages/count_tokens',
        body: Type.Omit(MessagesFields, ['max_tokens']),
      },
      summary: 'How many tokens the prompt of such a chat has.',
      example: (model) => ({ model, messages: [{ role: 'user', content: 'Hello' }] }),
      tasks: ['text-generation'],
      isChat: true,
    },
  ],
  routes: messagesRoutes,
};

const RETRY_AFTER_SECONDS = 1;

/** What tells where it goes and how; the rest is read by messages-request.ts. */
const MessagesBody = Type.Object({
  model: Type.Optional(Type.String({ minLength: 1, maxLength: 512 })),
  stream: Type.Optional(Type.Boolean()),
});

/** Status → kind of error. */
const KINDS: Readonly<Record<number, string>> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  405: 'invalid_request_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  503: 'overloaded_error',
};
/** Where Anthropic's status is another than the table's. */
const STATUSES: Partial<Record<ErrorCode, number>> = { QUEUE_FULL: 429 };

function statusOf(error: ServingError): number {
  return STATUSES[error.code] ?? error.httpStatus;
}

function errorObject(error: ServingError) {
  const type = KINDS[statusOf(error)] ?? (statusOf(error) < 500 ? 'invalid_request_error' : 'api_error');
  return { type: 'error', error: { type, message: error.message } };
}

function anthropicError(error: ServingError): ErrorAnswer {
  return { status: statusOf(error), body: JSON.stringify(errorObject(error)) };
}

async function messagesRoutes(app: FastifyInstance, context: HttpContext): Promise<void> {
  const { service } = context;
  setErrorWords(app, context, { tell: anthropicError, retryAfterSeconds: RETRY_AFTER_SECONDS });
  const validator = compileValidator(MessagesBody);
  app.setValidatorCompiler(() => (value: unknown) => validator.check(value));
  const parseJson = jsonBodyParser(app);
  app.removeContentTypeParser('application/json');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, text, done) =>
    parseJson(request, text as string, done),
  );

  app.post('/v1/messages', { schema: { body: MessagesBody } }, (request, reply) => {
    const body = request.body as Static<typeof MessagesBody> & Record<string, unknown>;
    const target: Target = {
      requestId: request.id,
      ...withVersion(
        openAiTarget(body.model, service, context.singleStartupModel()),
        service,
        request.headers,
      ),
      ...requestControl(request.headers, request.accessKey),
    };
    return answerNowOrLater(context, request, reply, async (client): Promise<Answer> => {
      const run = await runChat(context, chatOfMessages(body), target, client);
      const head = messageHead(target.model);
      if (body.stream !== true) {
        const make = async () => {
          const { answer, finish } = await run.whole();
          return wholeMessage(head, answer, finish);
        };
        return { kind: 'value', make };
      }
      const frames = withErrorFrames(
        messageEvents(head, run),
        (error) => [sentEvent(errorObject(error))],
        (error) => {
          client.abort();
          context.countError(error, statusOf(error));
          logStreamError(request.log, error);
        },
      );
      return { kind: 'stream', contentType: 'text/event-stream; charset=utf-8', frames };
    });
  });
  app.post('/v1/messages/count_tokens', { schema: { body: MessagesBody } }, async (request, reply) => {
    const body = request.body as Static<typeof MessagesBody>;
    const named = openAiTarget(body.model, service, context.singleStartupModel());
    const { model, version } = withVersion(named, service, request.headers);
    const checked = checkChatBody(chatOfMessages(body, false));
    if ('error' in checked) throw checked.error;
    const prompt = {
      kind: 'chat' as const,
      messages: chatMessages(checked.value.messages),
      ...chatOptions(checked.value),
    };
    const ids = await service.tokens?.(model, version).encode(prompt, false, clientSignal(reply).signal);
    return { input_tokens: ids?.length ?? 0 };
  });
}
