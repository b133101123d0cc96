/**
 * Answers a completion or a chat completion, whichever path it came by.
 *
 * In      a checked body, the model it goes to
 * Out     an Answer, once every job of it is accepted: one JSON object, or a stream in the path's framing
 * Errors  ServingError until the first frame; afterwards an error frame
 */
import type { FastifyBaseLogger } from 'fastify';
import type { ServingError } from '../../../../proto/errors.js';
import type { AddressedRequest } from '../../../requests/addressed-request.js';
import {
  type CompletionBody,
  candidatesOf,
  completionRequests,
  promptsOf,
  toldPrompt,
} from '../../../requests/completion-request.js';
import type { GenerateRequest } from '../../../requests/generate-request.js';
import type { Target } from '../../../requests/target.js';
import type { Answer } from '../../answers/answer.js';
import { collectAll, submitAll } from '../../answers/generations.js';
import { logStreamError, withErrorFrames } from '../../answers/stream-reply.js';
import type { HttpContext } from '../../http-context.js';
import { partsChatKind } from './chat-answer.js';
import { answerFormatOf, planChat } from './chat-plan.js';
import { type ChatBody, chatRequests } from './chat-request.js';
import { runChat } from './chat-run.js';
import { completionKind } from './completion-answer.js';
import { openAiErrorObject } from './openai-errors.js';
import { type AnswerKind, answer, chatKind, chatPrompt, chunks } from './openai-response.js';
import { failedEvents, responseEvents, responseHead, wholeResponse } from './responses-answer.js';
import { chatOfResponses } from './responses-request.js';

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

export function answerCompletion(
  context: HttpContext,
  log: FastifyBaseLogger,
  body: CompletionBody,
  target: Target,
  framing: Framing,
  client: AbortController,
): Promise<Answer> {
  const perPrompt = body.n ?? 1;
  const prompts = promptsOf(body.prompt);
  const echoed = prompts.flatMap((prompt) =>
    new Array<string | null>(perPrompt).fill(prompt.kind === 'text' ? prompt.text : null),
  );
  const kind = completionKind({
    logprobs: body.logprobs !== undefined,
    ...(body.echo === true && { echoed }),
    tellsPrompt: toldPrompt(body) !== undefined,
    promptLogprobs: body.prompt_logprobs !== undefined,
  });
  const requests = completionRequests(body, target);
  const shape = { idPrefix: 'cmpl', kind, perPrompt, candidates: candidatesOf(body), framing };
  return answerWith(context, log, body, requests, shape, client);
}

export function answerChat(
  context: HttpContext,
  log: FastifyBaseLogger,
  body: ChatBody,
  target: Target,
  framing: Framing,
  client: AbortController,
): Promise<Answer> {
  const { plan, reader } = planChat(body, answerFormatOf(context, target));
  const requests = chatRequests(body, target, plan);
  const logprobs = body.logprobs ?? false;
  const kind = {
    ...(reader === null ? chatKind(logprobs) : partsChatKind(logprobs, reader)),
    ...chatPrompt(body.prompt_logprobs !== undefined),
  };
  const perPrompt = requests.length;
  const shape = { idPrefix: 'chatcmpl', kind, perPrompt, candidates: perPrompt, framing };
  return answerWith(context, log, body, requests, shape, client);
}

/** @param body of the Responses API, not checked yet */
export async function answerResponse(
  context: HttpContext,
  log: FastifyBaseLogger,
  body: Record<string, unknown>,
  target: Target,
  client: AbortController,
): Promise<Answer> {
  const run = await runChat(context, chatOfResponses(body), target, client);
  const head = responseHead(target.model, body);
  if (body.stream !== true) {
    const make = async () => {
      const { answer: read, finish } = await run.whole();
      return wholeResponse(head, read, finish, run);
    };
    return { kind: 'value', make };
  }
  const frames = withErrorFrames(
    responseEvents(head, run),
    (error) => {
      const { message, code } = openAiErrorObject(error).error;
      return failedEvents(head, code ?? error.code, message);
    },
    (error) => {
      client.abort();
      context.countError(error, error.httpStatus);
      logStreamError(log, error);
    },
  );
  return { kind: 'stream', contentType: SSE_FRAMING.contentType, frames };
}

interface Shape {
  idPrefix: string;
  kind: AnswerKind;
  /** Choices of a prompt that are told … */
  perPrompt: number;
  /** … of so many that are made. */
  candidates: number;
  framing: Framing;
}

async function answerWith(
  { service, countError }: HttpContext,
  log: FastifyBaseLogger,
  body: Pick<CompletionBody, 'stream' | 'stream_options'>,
  requests: readonly GenerateRequest[],
  { candidates, idPrefix, kind, perPrompt, framing }: Shape,
  client: AbortController,
): Promise<Answer> {
  const generations = await submitAll(service, withOwnIds(requests), client);
  const { requestId, model } = requests[0]!;
  const head = { id: `${idPrefix}-${requestId}`, created: Math.floor(Date.now() / 1000), model };
  if (body.stream !== true) {
    const make = async () => {
      const collected = await collectAll(generations, client);
      return answer(head, kind, collected, candidates, perPrompt);
    };
    return { kind: 'value', make };
  }
  const objects = chunks(head, kind, generations, perPrompt, body.stream_options ?? {});
  const frames = withErrorFrames(
    framed(objects, framing),
    (error) => errorFramed(error, framing),
    (error) => {
      client.abort();
      countError(error, error.httpStatus);
      logStreamError(log, error);
    },
  );
  return { kind: 'stream', contentType: framing.contentType, frames };
}

export async function* framed(objects: AsyncIterable<object>, framing: Framing): AsyncGenerator<string> {
  for await (const value of objects) yield framing.frame(value);
  if (framing.end !== '') yield framing.end;
}

/** An error after the first frame. */
export const errorFramed = (error: ServingError, framing: Framing): string[] => [
  framing.frame(openAiErrorObject(error)),
  ...(framing.end === '' ? [] : [framing.end]),
];

/** The requests of one HTTP request are told apart in the log. */
export function withOwnIds<R extends AddressedRequest>(requests: readonly R[]): R[] {
  if (requests.length === 1) return [...requests];
  return requests.map((request, index) => ({ ...request, requestId: `${request.requestId}.${index}` }));
}
