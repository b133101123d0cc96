/**
 * Answers a text-generation request of DJLServing's LMI.
 *
 * In      a checked body, the model it goes to
 * Out     an Answer, once every job of it is accepted: one JSON object (a list for a list of inputs), or lines, one a token, in the form of lmi-forms.ts
 * Errors  ServingError until the first line; afterwards an error line
 */

import type { FastifyBaseLogger } from 'fastify';
import type { ModelStatus } from '../../../requests/service.js';
import type { Target } from '../../../requests/target.js';
import type { Answer } from '../../answers/answer.js';
import { collectAll, submitAll } from '../../answers/generations.js';
import { logStreamError, withErrorFrames } from '../../answers/stream-reply.js';
import type { HttpContext } from '../../http-context.js';
import { modelStatus } from '../../model-target.js';
import { withOwnIds } from '../openai/openai-handlers.js';
import { lmiForm } from './lmi-forms.js';
import {
  checkLmiBody,
  type LmiBody,
  lmiFormat,
  lmiRequests,
  refuseInStream,
  requireFewInputs,
  unknownParameters,
  withDefaults,
} from './lmi-request.js';
import { lmiAnswer } from './lmi-response.js';

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
  const [generation] = await submitAll(service, lmiRequests(asked, text, target, 1, false), client);
  const format = lmiFormat(asked);
  return {
    kind: 'value',
    make: async () => {
      const [collected] = await collectAll([generation!], client);
      const { generated_text } = lmiAnswer([collected!], text, format);
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
  const status = modelStatus({ service }, target);
  if (isText && status?.predictor) return answerPredictor(context, status.predictor, given, target, client);
  const body = status?.predictor ? checked(withDefaults(given, status.predictor.parameters)) : given;
  requireFewInputs(body);
  const dropped = unknownParameters(body);
  if (dropped.length > 0) log.warn({ parameters: dropped.slice(0, 20) }, 'unknown parameters are dropped');
  const form = lmiForm(status?.outputFormatter ?? null, body, target.requestId, target.model);
  if (form.streamed) refuseInStream(body);
  const texts = Array.isArray(body.inputs) ? body.inputs : [body.inputs];
  const { candidates } = lmiFormat(body);
  const requests = withOwnIds(
    texts.flatMap((text) => lmiRequests(body, text, target, candidates, form.needsLogprobs)),
  );
  const generations = await submitAll(service, requests, client);
  if (!form.streamed) {
    const make = async () => {
      const collected = await collectAll(generations, client);
      const answers = texts.map((text, at) =>
        form.whole(text, collected.slice(at * candidates, (at + 1) * candidates)),
      );
      if (!Array.isArray(body.inputs)) return answers[0];
      // TGI's list around each is the list.
      return answers.flat();
    };
    return { kind: 'value', make };
  }
  const prompt = texts[0]!;
  const frames = withErrorFrames(
    form.frames({ prompt, generations }),
    (error) => form.errorFrames(error, prompt),
    (error) => {
      client.abort();
      countError(error, error.httpStatus);
      logStreamError(log, error);
    },
  );
  return { kind: 'stream', contentType: form.contentType, frames };
}
