/**
 * Answers a text-generation request of DJLServing's LMI.
 *
 * In      a checked body, the model it goes to
 * Out     an Answer, once every job of it is accepted: one JSON object (a list for a list of inputs), or lines, one a token
 * Errors  ServingError until the first line; afterwards an error line
 */
import type { FastifyBaseLogger } from 'fastify';
import type { ModelStatus } from '../../../requests/service.js';
import type { Target } from '../../../requests/target.js';
import type { Answer } from '../../answers/answer.js';
import { collectAll, submitAll } from '../../answers/generations.js';
import { logStreamError, withErrorFrames } from '../../answers/stream-reply.js';
import type { HttpContext } from '../../http-context.js';
import { withOwnIds } from '../openai/openai-handlers.js';
import { type LmiBody, lmiFormat, lmiRequest, requireFewInputs, unknownParameters } from './lmi-request.js';
import { linesAsSse, lmiAnswer, lmiErrorLine, lmiLines, sseFrame } from './lmi-response.js';

/** Of the version that is asked for; where none is, of the first. */
function outputFormatterOf(
  models: readonly ModelStatus[],
  { model, version: asked }: Target,
): ModelStatus['outputFormatter'] {
  const found = models.find(({ name, version }) => name === model && (asked === null || version === asked));
  return found?.outputFormatter ?? null;
}

export async function answerLmi(
  { service, countError }: HttpContext,
  log: FastifyBaseLogger,
  body: LmiBody,
  target: Target,
  client: AbortController,
): Promise<Answer> {
  requireFewInputs(body);
  const dropped = unknownParameters(body);
  if (dropped.length > 0) log.warn({ parameters: dropped.slice(0, 20) }, 'unknown parameters are dropped');
  const formatter = outputFormatterOf(service.models(), target);
  // A formatter that the model's configuration names wins over the request's `stream`; a list has no stream.
  const many = Array.isArray(body.inputs);
  const streamed = !many && (formatter === null ? body.stream === true : formatter !== 'json');
  const texts = Array.isArray(body.inputs) ? body.inputs : [body.inputs];
  const requests = withOwnIds(texts.map((text) => lmiRequest(body, text, target, streamed)));
  const format = lmiFormat(body);
  const generations = await submitAll(service, requests, client);
  if (!streamed) {
    const make = async () => {
      const collected = await collectAll(generations, client);
      const answers = collected.map((each, index) => lmiAnswer(each, texts[index]!, format));
      return many ? answers : answers[0];
    };
    return { kind: 'value', make };
  }
  const prompt = texts[0]!;
  const isSse = formatter === 'sse';
  const lines = lmiLines(generations[0]!.events, prompt, format);
  const frames = withErrorFrames(
    isSse ? linesAsSse(lines) : lines,
    (error) => [isSse ? sseFrame(lmiErrorLine(error, prompt)) : lmiErrorLine(error, prompt)],
    (error) => {
      client.abort();
      countError(error, error.httpStatus);
      logStreamError(log, error);
    },
  );
  return { kind: 'stream', contentType: isSse ? 'text/event-stream' : 'application/jsonlines', frames };
}
