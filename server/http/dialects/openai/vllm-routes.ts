/**
 * What vLLM serves beside OpenAI's API: POST /tokenize, POST /detokenize, GET /version, GET /health.
 *
 * In      {"prompt"} or {"messages", "tools", …}, "add_special_tokens", "return_token_strs"; {"tokens"}; {"inputs"}, as Text Generation
 *         Inference has it at /tokenize
 * Out     {"count", "max_model_len", "tokens", "token_strs"}; {"prompt"}; {"version"}; 200 without a body, or 503; of inputs the list of
 *         tgi-tokens.ts
 * Limits  those of a prompt
 * Errors  as OpenAI's API says them
 * Source  vLLM's OpenAI-compatible server
 */
import { type Static, Type } from '@sinclair/typebox';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ServingError } from '../../../../proto/errors.js';
import { InvalidInput } from '../../../requests/invalid-input.js';
import type { ModelTokens } from '../../../requests/model-tokens.js';
import { fields } from '../../../requests/sampling-fields.js';
import { clientSignal } from '../../answers/stream-reply.js';
import type { Dialect } from '../../dialect.js';
import type { HttpContext } from '../../http-context.js';
import type { ModelTarget } from '../../model-target.js';
import { tgiTokens } from '../tgi/tgi-tokens.js';
import { chatMessages, Message } from './chat-messages.js';
import { chatOptions } from './chat-request.js';
import { ToolFields } from './chat-tools.js';

/** The API's that is served, not this program's: clients compare it. */
const VERSION = '0.1.0';

const optional = Type.Optional;

const TokenizeBody = Type.Object({
  model: optional(Type.String({ minLength: 1, maxLength: 512 })),
  prompt: optional(Type.String()),
  inputs: optional(Type.String({ minLength: 1 })),
  parameters: optional(
    Type.Union([Type.Null(), Type.Object({ truncate: optional(fields.keptTokens) })], {
      expects: 'an object',
    }),
  ),
  messages: optional(Type.Array(Message, { minItems: 1, maxItems: 4096 })),
  tools: ToolFields.tools,
  add_special_tokens: optional(Type.Boolean()),
  add_generation_prompt: optional(Type.Boolean()),
  continue_final_message: optional(Type.Boolean()),
  chat_template_kwargs: optional(Type.Record(Type.String({ maxLength: 256 }), Type.Unknown())),
  return_token_strs: optional(Type.Boolean()),
});

const DetokenizeBody = Type.Object({
  model: optional(Type.String({ minLength: 1, maxLength: 512 })),
  tokens: fields.promptIds,
});

export const VLLM_REFERENCE: NonNullable<Dialect['reference']> = [
  {
    ...{
      method: 'POST',
      path: '/tokenize',
      summary: 'The ids of a prompt, or of a chat.',
      body: TokenizeBody,
    },
    example: (model) => ({ model, prompt: 'Once upon a time' }),
    tasks: ['text-generation'],
  },
  {
    ...{ method: 'POST', path: '/detokenize', summary: 'The text of ids.', body: DetokenizeBody },
    example: (model) => ({ model, tokens: [1, 2, 3] }),
    tasks: ['text-generation'],
  },
  { method: 'GET', path: '/version', summary: "The version of vLLM's API that is served." },
  {
    method: 'GET',
    path: '/health',
    summary: 'Whether every model that is loaded is healthy: 200 or 503, no body.',
  },
];

/** @throws ServingError BAD_REQUEST: it has none */
export function tokensOfModel(service: HttpContext['service'], { model, version }: ModelTarget): ModelTokens {
  const tokens = service.tokens?.(model, version);
  if (tokens === undefined) throw new ServingError('BAD_REQUEST', `Model ${model} knows no tokens`);
  return tokens;
}

export function vllmRoutes(
  app: FastifyInstance,
  context: HttpContext,
  target: (request: FastifyRequest, model: string | undefined) => ModelTarget,
): void {
  const tokensOf = (request: FastifyRequest, name: string | undefined): ModelTokens =>
    tokensOfModel(context.service, target(request, name));

  app.post('/tokenize', { schema: { body: TokenizeBody } }, async (request, reply) => {
    const body = request.body as Static<typeof TokenizeBody>;
    const tokens = tokensOf(request, body.model);
    const prompt = promptOf(body);
    const { signal } = clientSignal(reply);
    if (body.inputs !== undefined) return tgiTokens(tokens, prompt, body.parameters?.truncate, signal);
    const ids = await tokens.encode(prompt, body.add_special_tokens ?? true, signal);
    return {
      count: ids.length,
      max_model_len: tokens.contextLength,
      tokens: ids,
      token_strs: body.return_token_strs === true ? ids.map((id) => tokens.text(id)) : null,
    };
  });
  app.post('/detokenize', { schema: { body: DetokenizeBody } }, async (request) => {
    const body = request.body as Static<typeof DetokenizeBody>;
    return { prompt: tokensOf(request, body.model).decode(body.tokens) };
  });
  app.get('/version', async () => ({ version: VERSION }));
  app.route({
    ...{ method: ['GET', 'HEAD'], url: '/health', config: { access: 'open' as const } },
    handler: async (_request, reply) => {
      const isHealthy = context.service
        .models()
        .every(({ healthy, state }) => state === 'PENDING' || healthy);
      return reply.code(isHealthy ? 200 : 503).send('');
    },
  });
}

function promptOf(body: Static<typeof TokenizeBody>) {
  const { inputs, messages, prompt } = body;
  if ([prompt, messages, inputs].filter((one) => one !== undefined).length !== 1) {
    throw new InvalidInput('either prompt or messages is required', 'prompt');
  }
  if (messages === undefined) return { kind: 'text' as const, text: (prompt ?? inputs)! };
  return { kind: 'chat' as const, messages: chatMessages(messages), ...chatOptions(body) };
}
