/**
 * Answers a prediction whose body is read, by its kind.
 *
 * In      a checked body, the model it goes to
 * Out     an Answer, once every job of it is accepted
 * Errors  ServingError of the model, the queue and the body
 */
import type { FastifyRequest } from 'fastify';
import { ServingError } from '../../../../proto/errors.js';
import type { Target } from '../../../requests/target.js';
import type { Answer } from '../../answers/answer.js';
import { answerHandler, propertiesOf } from '../../answers/handler-answer.js';
import { answerTensors } from '../../answers/tensor-answer.js';
import type { HttpContext } from '../../http-context.js';
import { modelStatus } from '../../model-target.js';
import { answerEmbeddings } from '../openai/openai-embeddings.js';
import { answerChat, answerCompletion, JSON_LINES_FRAMING } from '../openai/openai-handlers.js';
import type { DjlBody } from './djl-body.js';
import { answerLmiEmbeddings } from './lmi-embeddings.js';
import { answerLmi } from './lmi-handler.js';
import { answerLmiLabels } from './lmi-labels.js';

/** A request's; `isWholeText`: its body was a plain text. */
type Asked = Pick<FastifyRequest, 'headers' | 'log' | 'query'> & { isWholeText?: boolean };

/** Resolves once every job of the request is accepted. */
export function predict(
  context: HttpContext,
  { headers, isWholeText = false, log, query }: Asked,
  prediction: DjlBody,
  target: Target,
  client: AbortController,
): Promise<Answer> {
  switch (prediction.kind) {
    case 'chat':
      return answerChat(context, log, prediction.body, target, JSON_LINES_FRAMING, client);
    case 'completion':
      return answerCompletion(context, log, prediction.body, target, JSON_LINES_FRAMING, client);
    case 'embedding':
      return answerEmbeddings(context, prediction.body, target, client);
    case 'content':
      return answerHandler(context, prediction.body, propertiesOf(headers, query), target, client);
    case 'tensors': {
      const status = modelStatus(context, target);
      if (!status) throw new ServingError('MODEL_NOT_FOUND', `Model not found: ${target.model}`);
      return answerTensors(context, prediction.body, status, target, client);
    }
    case 'lmi': {
      const status = modelStatus(context, target);
      if (status?.task === 'text-classification') {
        return answerLmiLabels(context, log, prediction.body, status, target, client);
      }
      return status?.task === 'text-embedding'
        ? answerLmiEmbeddings(context, log, prediction.body, target, client)
        : answerLmi(context, log, prediction.body, target, client, isWholeText);
    }
  }
}
