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
import {
  checkLmiBody,
  type LmiBody,
  lmiFormat,
  lmiRequest,
  requireFewInputs,
  unknownParameters,
  withDefaults,
} from './lmi-request.js';
import { linesAsSse, lmiAnswer, lmiErrorLine, lmiLines, sseFrame } from './lmi-response.js';

/** The version's that is asked for; where none is, the first one's. */
const statusOf = (
  models: readonly ModelStatus[],
  { model, version: asked }: Target,
): ModelStatus | undefined =>
  models.find(({ name, version }) => name === model && (asked === null || version === asked));

/** What a model.py asks may be out of range, too. @throws InvalidInput */
function checked(body: LmiBody): LmiBody {
  const result = checkLmiBody(body);
  if ('error' in result) throw result.error;
  return result.value;
}

type Predictor = NonNullable<ModelStatus['predictor']>;

/** A plain text is asked as the model's own model.py does, and answered in its form: the pipeline's, with the prompt in the text. */
async function answerPredictor(
  { service }: HttpContext,
  { answer, parameters }: Predictor,
  body: LmiBody,
  target: Target,
  client: AbortController,
): Promise<Answer> {
  const text = String(body.inputs);
  const asked = checked(withDefaults(body, { return_full_text: true, ...parameters }));
  const [generation] = await submitAll(service, [lmiRequest(asked, text, target, false)], client);
  const format = lmiFormat(asked);
  return {
    kind: 'value',
    make: async () => {
      const [collected] = await collectAll([generation!], client);
      const { generated_text } = lmiAnswer(collected!, text, format);
      if (answer === 'text') return generated_text;
      return answer === 'list' ? [{ generated_text }] : { generated_text };
    },
  };
}

/** @param isText the body was a plain text */
export async function answerLmi(
  context: HttpContext,
  log: FastifyBaseLogger,
  given: LmiBody,
  target: Target,
  client: AbortController,
  isText = false,
): Promise<Answer> {
  const { countError, service } = context;
  const status = statusOf(service.models(), target);
  if (isText && status?.predictor) return answerPredictor(context, status.predictor, given, target, client);
  const body = status?.predictor ? checked(withDefaults(given, status.predictor.parameters)) : given;
  requireFewInputs(body);
  const dropped = unknownParameters(body);
  if (dropped.length > 0) log.warn({ parameters: dropped.slice(0, 20) }, 'unknown parameters are dropped');
  const formatter = status?.outputFormatter ?? null;
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
