/**
 * Answers a completion or a chat completion, whichever path it came by.
 *
 * In      a checked body, the model it goes to
 * Out     the reply: one JSON object, or a stream in the path's framing
 * Errors  ServingError until the first frame; afterwards an error frame
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { ServerConfig } from '../config/config.js';
import type { GenerateRequest, GenerationService } from '../jobs/generate-request.js';
import { openAiErrorObject } from './errors.js';
import { collectAll, submitAll } from './generations.js';
import {
  type ChatBody,
  type CompletionBody,
  chatRequests,
  completionRequests,
  promptsOf,
  type Target,
} from './openai-request.js';
import { type AnswerKind, answer, chatKind, chunks, completionKind } from './openai-response.js';
import { clientSignal, sendFrames, withErrorFrames } from './stream-reply.js';

/** How a path frames a stream. */
export interface Framing {
  contentType: string;
  frame(value: object): string;
  /** What ends a stream; '' for nothing. */
  end: string;
}

/** OpenAI's: server-sent events, ended by [DONE]. */
export const SSE_FRAMING: Framing = {
  contentType: 'text/event-stream; charset=utf-8',
  frame: (value) => `data: ${JSON.stringify(value)}\n\n`,
  end: 'data: [DONE]\n\n',
};

/** DJLServing's: the same objects, one a line. */
export const JSON_LINES_FRAMING: Framing = {
  contentType: 'application/jsonlines',
  frame: (value) => `${JSON.stringify(value)}\n`,
  end: '',
};

export interface HandlerDeps {
  config: ServerConfig;
  service: GenerationService;
}

export function answerCompletion(
  deps: HandlerDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  body: CompletionBody,
  target: Target,
  framing: Framing,
): Promise<FastifyReply> {
  const perPrompt = body.n ?? 1;
  const echoed =
    body.echo === true
      ? promptsOf(body.prompt).flatMap((prompt) => {
          const text = prompt.kind === 'text' ? prompt.text : '';
          return new Array<string>(perPrompt).fill(text);
        })
      : null;
  const kind = completionKind(body.logprobs !== undefined, echoed);
  const requests = completionRequests(body, target);
  return respond(deps, request, reply, body, requests, { idPrefix: 'cmpl', kind, perPrompt, framing });
}

export function answerChat(
  deps: HandlerDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  body: ChatBody,
  target: Target,
  framing: Framing,
): Promise<FastifyReply> {
  const requests = chatRequests(body, target);
  const kind = chatKind(body.logprobs ?? false);
  return respond(deps, request, reply, body, requests, {
    idPrefix: 'chatcmpl',
    kind,
    perPrompt: requests.length,
    framing,
  });
}

interface Shape {
  idPrefix: string;
  kind: AnswerKind;
  perPrompt: number;
  framing: Framing;
}

async function respond(
  { config, service }: HandlerDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  body: Pick<CompletionBody, 'stream' | 'stream_options'>,
  requests: readonly GenerateRequest[],
  { idPrefix, kind, perPrompt, framing }: Shape,
): Promise<FastifyReply> {
  const client = clientSignal(reply);
  const generations = await submitAll(service, withOwnIds(requests), client);
  const head = {
    id: `${idPrefix}-${request.id}`,
    created: Math.floor(Date.now() / 1000),
    model: requests[0]!.model,
  };
  if (body.stream !== true) {
    const collected = await collectAll(generations, client);
    return reply.send(answer(head, kind, collected, perPrompt));
  }
  const includeUsage = body.stream_options?.include_usage ?? false;
  const objects = chunks(head, kind, generations, perPrompt, includeUsage);
  const frames = withErrorFrames(
    framed(objects, framing),
    (error) => [framing.frame(openAiErrorObject(error)), ...(framing.end === '' ? [] : [framing.end])],
    (error) => {
      client.abort();
      request.log.error({ err: error }, 'a stream ended with an error');
    },
  );
  return sendFrames(reply, framing.contentType, frames, config.chunkedReadTimeoutSeconds * 1000);
}

async function* framed(objects: AsyncIterable<object>, framing: Framing): AsyncGenerator<string> {
  for await (const value of objects) yield framing.frame(value);
  if (framing.end !== '') yield framing.end;
}

/** The requests of one HTTP request are told apart in the log. */
export function withOwnIds(requests: readonly GenerateRequest[]): GenerateRequest[] {
  if (requests.length === 1) return [...requests];
  return requests.map((request, index) => ({ ...request, requestId: `${request.requestId}.${index}` }));
}
