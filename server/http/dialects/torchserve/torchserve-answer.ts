/**
 * Answers of predictions as TorchServe gives them.
 *
 * In      a read body and the model it goes to
 * Out     an Answer: a handler's as it made it, with TorchServe's exception where the handler refused; text for text
 * Errors  ServingError; a model without workers, and a full queue, in TorchServe's words
 */

import type { FastifyRequest } from 'fastify';
import { ServingError } from '../../../../proto/errors.js';
import type { Target } from '../../../requests/target.js';
import { type Answer, allOf } from '../../answers/answer.js';
import { ContentBody, NumpyBody, TensorBody } from '../../bodies/model-bodies.js';
import { prettyJson } from '../../errors.js';
import type { HttpContext } from '../../http-context.js';
import { modelStatus } from '../../model-target.js';
import { checkDjlBody, type DjlBody } from '../djl/djl-body.js';
import { predict } from '../djl/djl-predict.js';
import { TextBody } from './prediction-body.js';
import { TorchServeRefusal } from './torchserve-errors.js';

/** Told of a handler's refusal by the process that runs it. */
const REFUSAL = 'PredictionException';
const MAX_REFUSAL_BYTES = 65_536;

type Asked = Pick<FastifyRequest, 'headers' | 'log' | 'query'>;

/** @param asked a version that the client named; null: none. @throws ServingError */
export async function answerPrediction(
  context: HttpContext,
  request: Asked,
  body: unknown,
  target: Target,
  asked: string | null,
  client: AbortController,
): Promise<Answer> {
  try {
    const answer = await predict(context, request, bodyOf(context, body, target), target, client);
    if (answer.kind === 'content') return inTorchServesShape(answer);
    return body instanceof TextBody ? asText(answer) : answer;
  } catch (error) {
    throw withoutWorker(error, target.model, asked);
  }
}

/** @throws InvalidInput */
function bodyOf(context: HttpContext, body: unknown, target: Target): DjlBody {
  if (body instanceof ContentBody) return { kind: 'content', body };
  const task = modelStatus(context, target)?.task;
  if (task === 'handler') throw new ServingError('MODEL_NOT_READY', 'The model has just changed; ask again');
  if (task === 'tensors') {
    if (body instanceof TextBody)
      throw new ServingError('BAD_REQUEST', 'A model of tensors takes JSON, tensor/npy or tensor/npz');
    return { kind: 'tensors', body: new TensorBody(body) };
  }
  if (body instanceof NumpyBody)
    throw new ServingError('BAD_REQUEST', 'Only a model of tensors takes arrays of NumPy');
  const checked = checkDjlBody(body instanceof TextBody ? { inputs: body.text } : body);
  if ('error' in checked) throw checked.error;
  return checked.value;
}

/** The text alone. */
function asText(answer: Answer): Answer {
  if (answer.kind !== 'value') return answer;
  return {
    kind: 'content',
    make: async () => {
      const value = await answer.make();
      const { generated_text: text } = value as { generated_text?: unknown };
      const isText = typeof text === 'string';
      const bytes = Buffer.from(isText ? text : JSON.stringify(value));
      const contentType = isText ? 'text/plain; charset=utf-8' : 'application/json';
      return { status: 200, contentType, headers: {}, isStream: false, chunks: one(bytes) };
    },
  };
}

async function* one(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** A stream says that it is one; what a handler has refused has TorchServe's exception. */
function inTorchServesShape(answer: Extract<Answer, { kind: 'content' }>): Answer {
  return {
    kind: 'content',
    make: async () => {
      const content = await answer.make();
      if (content.isStream) return { ...content, headers: { ...content.headers, ts_stream_next: 'true' } };
      if (content.status < 400 || content.contentType !== 'application/json') return content;
      const bytes = await allOf(content.chunks);
      return { ...content, chunks: one(refusalOf(bytes) ?? bytes) };
    },
  };
}

/** null: the handler said so itself, in its own form. */
function refusalOf(bytes: Buffer): Buffer | null {
  if (bytes.length > MAX_REFUSAL_BYTES) return null;
  try {
    const { code, message, type } = JSON.parse(bytes.toString('utf8')) as Record<string, unknown>;
    if (type !== REFUSAL) return null;
    return Buffer.from(prettyJson({ code, type: 'InternalServerException', message }));
  } catch {
    return null;
  }
}

/** TorchServe says one thing of a model without workers and of one whose queue is full. */
export function withoutWorker(error: unknown, model: string, version: string | null): unknown {
  if (!(error instanceof ServingError) || error instanceof TorchServeRefusal) return error;
  if (!['NO_WORKERS', 'QUEUE_FULL', 'MODEL_NOT_READY'].includes(error.code)) return error;
  const shown = version === null ? `"${model}"` : `"${model}" Version ${version}"`;
  const sentence =
    `Model ${shown} has no worker to serve inference request. Please use scale workers API to add workers. ` +
    'If this is a sequence inference, please check if it is closed, or expired; or exceeds maxSequenceJobQueueSize';
  const { code } = error;
  const refusal = new TorchServeRefusal(code, 'ServiceUnavailableException', 503, sentence, error);
  return error.retryAfterSeconds === undefined
    ? refusal
    : Object.assign(refusal, { retryAfterSeconds: error.retryAfterSeconds });
}
