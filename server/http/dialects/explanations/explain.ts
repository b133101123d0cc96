/**
 * An explanation, by what the model is for.
 *
 * In      the body of a prediction, as JSON or text
 * Out     plain data
 * Errors  BAD_REQUEST; those of the model
 */
import { setMaxListeners } from 'node:events';
import type { IncomingHttpHeaders } from 'node:http';
import { ServingError } from '../../../../proto/errors.js';
import type { Target } from '../../../requests/target.js';
import { propertiesOf } from '../../answers/handler-answer.js';
import type { HttpContext } from '../../http-context.js';
import { explainHandler } from './explain-handler.js';
import type { ExplainOptions } from './explain-options.js';
import { explainTensors } from './explain-tensors.js';
import { explainText } from './explain-text.js';

export interface ExplainRequest {
  /** JSON, or a text. */
  body: unknown;
  headers: IncomingHttpHeaders;
  target: Target;
  options: ExplainOptions;
}

/** @throws ServingError */
export async function explain(
  context: HttpContext,
  { body, headers, options, target }: ExplainRequest,
  client: AbortController,
): Promise<object> {
  // Each of its requests listens.
  setMaxListeners(0, client.signal);
  const { model, version } = target;
  const status = context.service
    .models()
    .find((one) => one.name === model && (version === null || one.version === version));
  switch (status?.task) {
    case 'text-generation':
      return explainText(context, body, target, options, client.signal);
    case 'tensors':
      return explainTensors(context, body, status, target, options, client.signal);
    case 'handler':
      return explainHandler(context, body, propertiesOf(headers, {}), target, options, client);
    case 'text-embedding':
      throw new ServingError(
        'BAD_REQUEST',
        `Model ${model} makes vectors: there is no one number to explain`,
      );
    default:
      throw new ServingError('MODEL_NOT_READY', `Model is not ready: ${model}`);
  }
}
