/**
 * KServe's v1 protocol, as TorchServe serves it: {"instances": […]} → {"predictions": […]}, or {"explanations": […]}.
 *
 * In      a handler's instances, each a request of its own (the handler's batch); texts for a language model; rows of tensors. For
 *         explanations `parameters` too, as the query of /explanations has them
 * Out     one prediction an instance, in order: JSON where it is JSON, else text
 * Limits  MAX_INSTANCES
 * Errors  BAD_REQUEST: no instances; what the first that fails fails with
 * Source  KServe's V1 protocol; TorchServe's kserve envelope
 */
import type { FastifyRequest } from 'fastify';
import { ServingError } from '../../../../proto/errors.js';
import { InvalidInput } from '../../../requests/invalid-input.js';
import type { Target } from '../../../requests/target.js';
import { type Answer, allOf } from '../../answers/answer.js';
import { ContentBody } from '../../bodies/model-bodies.js';
import type { HttpContext } from '../../http-context.js';
import { modelStatus } from '../../model-target.js';
import { explainEach } from '../explanations/explain.js';
import { explainOptionsOf } from '../explanations/explain-options.js';
import { answerPrediction } from './torchserve-answer.js';

const MAX_INSTANCES = 1024;
/** Fields that hold what is asked, of an instance that is an object. */
const TEXT_FIELDS = ['data', 'body', 'inputs', 'text', 'prompt'];

/** @throws ServingError */
export async function answerKServe(
  context: HttpContext,
  request: FastifyRequest,
  target: Target,
  client: AbortController,
): Promise<{ predictions: unknown[] }> {
  const { headers, log, query } = request;
  const instances = instancesOf(request.body);
  const task = modelStatus(context, target)?.task;
  if (task === 'tensors') {
    // Rows of one tensor.
    const made = await answerPrediction(context, { headers, log, query }, instances, target, null, client);
    return { predictions: [await predictionOf(made)].flat(1) };
  }
  const bodies = instances.map((instance) => bodyOf(instance, task === 'handler'));
  const answers = await Promise.all(
    bodies.map(async (body, index) => {
      const requestId = bodies.length === 1 ? target.requestId : `${target.requestId}.${index}`;
      const asked = { headers: { ...headers, explain: 'False' }, log, query };
      return answerPrediction(context, asked, body, { ...target, requestId }, null, client);
    }),
  ).catch((error: unknown) => {
    // The others are nobody's any more.
    client.abort();
    throw error;
  });
  return { predictions: await Promise.all(answers.map(predictionOf)) };
}

/** @throws ServingError */
export async function explainKServe(
  context: HttpContext,
  { body, headers }: FastifyRequest,
  target: Target,
  client: AbortController,
): Promise<{ explanations: unknown[] }> {
  const options = explainOptionsOf((body as { parameters?: unknown } | null)?.parameters);
  const task = modelStatus(context, target)?.task;
  const bodies = instancesOf(body).map((instance) => {
    if (task === 'handler') return unwrapped(instance).value;
    // A row of one tensor.
    return task === 'tensors' ? (Array.isArray(instance) ? [instance] : instance) : bodyOf(instance, false);
  });
  const asked = { bodies, headers, target, options };
  return { explanations: await explainEach(context, asked, client) };
}

function instancesOf(body: unknown): readonly unknown[] {
  const { instances } = (body ?? {}) as { instances?: unknown };
  if (!Array.isArray(instances))
    throw new InvalidInput('The request body must be {"instances": […]}', 'instances');
  if (instances.length === 0 || instances.length > MAX_INSTANCES)
    throw new InvalidInput(`instances must be 1 … ${MAX_INSTANCES}, got ${instances.length}`, 'instances');
  return instances;
}

/** As a handler's row: {"data": …} is its field, anything else the body. */
function bodyOf(instance: unknown, isHandler: boolean): unknown {
  const fields =
    typeof instance === 'object' && instance !== null ? (instance as Record<string, unknown>) : {};
  if (!isHandler) {
    const field = TEXT_FIELDS.find((name) => typeof fields[name] === 'string');
    const text = field === undefined ? instance : fields[field];
    return typeof text === 'string' && fields.parameters === undefined
      ? { inputs: text }
      : { ...fields, ...(field && { inputs: text }) };
  }
  const { key, value } = unwrapped(instance);
  const isText = typeof value === 'string';
  const bytes = Buffer.from(isText ? value : JSON.stringify(value));
  return new ContentBody([{ key, bytes, contentType: isText ? 'text/plain' : 'application/json' }]);
}

/** {"data": …} is what it holds, and its key; anything else is itself. */
function unwrapped(instance: unknown): { key: string; value: unknown } {
  const fields =
    typeof instance === 'object' && instance !== null ? (instance as Record<string, unknown>) : {};
  const [only, another] = Object.keys(fields);
  const key = (only === 'data' || only === 'body') && another === undefined ? only : '';
  return { key, value: key === '' ? instance : fields[key] };
}

/** @throws ServingError */
async function predictionOf(answer: Answer): Promise<unknown> {
  if (answer.kind === 'value') {
    const value = await answer.make();
    const { generated_text: text } = (value ?? {}) as { generated_text?: unknown };
    return text ?? value;
  }
  if (answer.kind === 'stream')
    throw new ServingError('BAD_REQUEST', 'A prediction of instances is not streamed');
  const { chunks, contentType, status } = await answer.make();
  const text = (await allOf(chunks)).toString('utf8');
  if (status >= 400) throw new ServingError('HANDLER_FAILED', text.slice(0, 500));
  if (!contentType.includes('json')) return text;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}
