/**
 * An explanation, by what the model is for.
 *
 * In      the body of a prediction, as JSON or text
 * Out     plain data
 * Limits  x-request-timeout-ms (default DEFAULT_LIMIT_MS) is for the whole of it, not for each of its requests
 * Errors  BAD_REQUEST; REQUEST_TIMEOUT; those of the model
 */
import type { IncomingHttpHeaders } from 'node:http';
import { ServingError } from '../../../../proto/errors.js';
import { clientController } from '../../../requests/client-controller.js';
import type { Target } from '../../../requests/target.js';
import { propertiesOf } from '../../answers/handler-answer.js';
import type { HttpContext } from '../../http-context.js';
import { modelStatus } from '../../model-target.js';
import { BytesBody, explainHandler } from './explain-handler.js';
import type { ExplainOptions } from './explain-options.js';
import { explainTensors } from './explain-tensors.js';
import { explainText } from './explain-text.js';

export interface ExplainRequest {
  /** JSON, a text, or a BytesBody. */
  body: unknown;
  headers: IncomingHttpHeaders;
  target: Target;
  options: ExplainOptions;
}

const DEFAULT_LIMIT_MS = 600_000;

/** @throws ServingError */
export async function explain(
  context: HttpContext,
  { target, ...request }: ExplainRequest,
  client: AbortController,
): Promise<unknown> {
  const { timeoutMs, ...untimed } = target;
  const limitMs = timeoutMs ?? DEFAULT_LIMIT_MS;
  const whole = clientController();
  const leave = (): void => whole.abort();
  client.signal.addEventListener('abort', leave, { once: true });
  if (client.signal.aborted) leave();
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    leave();
  }, limitMs);
  try {
    return await explainBy(context, { ...request, target: untimed }, whole);
  } catch (error) {
    if (!isLate) throw error;
    const hint = 'fewer samples or steps take less, and x-request-timeout-ms says how long it may take';
    const sentence = `The explanation was not there after ${limitMs} ms: ${hint}`;
    throw new ServingError('REQUEST_TIMEOUT', sentence, { cause: error });
  } finally {
    clearTimeout(timer);
    client.signal.removeEventListener('abort', leave);
  }
}

/** Why a model answers as it does, a request after the other: each is many questions. @throws ServingError */
export async function explainEach(
  context: HttpContext,
  { bodies, headers, target, options }: Omit<ExplainRequest, 'body'> & { bodies: readonly unknown[] },
  client: AbortController,
): Promise<unknown[]> {
  const explanations: unknown[] = [];
  // One limit for all of them.
  const endMs = performance.now() + (target.timeoutMs ?? DEFAULT_LIMIT_MS);
  for (const [index, body] of bodies.entries()) {
    const requestId = `${target.requestId}.${index}`;
    const timeoutMs = Math.max(1, Math.ceil(endMs - performance.now()));
    const asked = { body, headers, target: { ...target, requestId, timeoutMs }, options };
    explanations.push(await explain(context, asked, client));
  }
  return explanations;
}

async function explainBy(
  context: HttpContext,
  { body, headers, options, target }: ExplainRequest,
  client: AbortController,
): Promise<unknown> {
  const { model } = target;
  const status = modelStatus(context, target);
  if (body instanceof BytesBody && status !== undefined && status.task !== 'handler')
    throw new ServingError('BAD_REQUEST', `Model ${model} takes no ${body.contentType}: JSON or a text`);
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
