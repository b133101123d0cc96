/**
 * One node of a workflow as DJLServing's paths ask a model, without a path: by what the model is for.
 *
 * In      the parts of a body, or tensors
 * Out     the answer's bytes, or tensors
 * Errors  those of the model; a handler's answer of an error status
 */
import type { FastifyBaseLogger } from 'fastify';
import { ServingError } from '../../../../proto/errors.js';
import type { Tenant } from '../../../requests/addressed-request.js';
import type { ContentPart } from '../../../requests/invoke-request.js';
import type { PredictRequest } from '../../../requests/predict-request.js';
import type { ModelStatus } from '../../../requests/service.js';
import type { Target } from '../../../requests/target.js';
import type { NodeCall, NodeValue } from '../../../requests/workflows.js';
import { type Answer, allOf } from '../../answers/answer.js';
import { answerHandler, ContentBody } from '../../answers/handler-answer.js';
import { answerTensors, TensorBody } from '../../answers/tensor-answer.js';
import { bodyTooDeep } from '../../bodies/json-body.js';
import type { HttpContext } from '../../http-context.js';
import { answerLmiEmbeddings } from '../djl/lmi-embeddings.js';
import { answerLmi } from '../djl/lmi-handler.js';
import { checkLmiBody } from '../djl/lmi-request.js';

const JSON_TYPE = 'application/json';

/** What the nodes of a request have of it: whose it is, how urgent. */
export type NodeOrigin = Pick<Target, 'requestId' | 'priority' | 'cacheSalt'> & { tenant?: Tenant };

/** @param properties headers and query of the request, for functions */
export const nodeCaller =
  (
    context: HttpContext,
    log: FastifyBaseLogger,
    origin: NodeOrigin,
    properties: Readonly<Record<string, string>>,
  ): NodeCall =>
  async (model, value, { signal, timeoutMs }) => {
    const status = context.service.models().find(({ name }) => name === model);
    if (status === undefined)
      throw new ServingError('MODEL_NOT_FOUND', `Model or workflow not found: ${model}`);
    const client = new AbortController();
    const leave = (): void => client.abort();
    signal.addEventListener('abort', leave, { once: true });
    if (signal.aborted) leave();
    const target: Target = { ...origin, model, version: null, timeoutMs };
    try {
      if (value.kind === 'tensors') return await predicted(context, value, target, client.signal);
      const answer = await answered(context, log, status, value.parts, properties, target, client);
      return { kind: 'content', parts: [await partOf(answer, model)] };
    } finally {
      signal.removeEventListener('abort', leave);
    }
  };

async function predicted(
  { service }: HttpContext,
  { tensors }: Extract<NodeValue, { kind: 'tensors' }>,
  { cacheSalt: _salt, ...to }: Target,
  signal: AbortSignal,
): Promise<NodeValue> {
  const request: PredictRequest = { kind: 'predict', ...to, inputs: tensors, outputs: null };
  const { events } = await service.submit(request, signal);
  for await (const event of events)
    if (event.kind === 'value') return { kind: 'tensors', tensors: event.outputs };
  throw new Error('a prediction ended without its value');
}

function answered(
  context: HttpContext,
  log: FastifyBaseLogger,
  status: ModelStatus,
  parts: readonly ContentPart[],
  properties: Readonly<Record<string, string>>,
  target: Target,
  client: AbortController,
): Promise<Answer> {
  if (status.task === 'handler')
    return answerHandler(context, new ContentBody(parts), properties, target, client);
  const value = bodyOf(parts);
  if (status.task === 'tensors') return answerTensors(context, new TensorBody(value), status, target, client);
  const isText = typeof value === 'string';
  const body = isText || Array.isArray(value) ? { inputs: value } : { ...(value as object), stream: false };
  const checked = checkLmiBody(body);
  if ('error' in checked) throw checked.error;
  return status.task === 'text-embedding'
    ? answerLmiEmbeddings(context, log, checked.value, target, client)
    : answerLmi(context, log, checked.value, target, client, isText);
}

/** JSON where a part is JSON, else its text; several parts by their keys. @throws ServingError BAD_REQUEST */
function bodyOf(parts: readonly ContentPart[]): unknown {
  const [first, second] = parts;
  if (first === undefined) throw new ServingError('BAD_REQUEST', 'The request has no body');
  if (second === undefined) return ofPart(first);
  return Object.fromEntries(parts.map((part) => [part.key, ofPart(part)]));
}

function ofPart({ bytes, contentType }: ContentPart): unknown {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new ServingError('BAD_REQUEST', 'A model takes JSON or text, not bytes');
  }
  if (contentType !== null && contentType !== JSON_TYPE && !contentType.endsWith('+json')) return text;
  const error = bodyTooDeep(text);
  if (error !== null) throw error;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

async function partOf(answer: Answer, model: string): Promise<ContentPart> {
  if (answer.kind === 'stream') throw new ServingError('BAD_REQUEST', `Model ${model} streams its answers`);
  if (answer.kind === 'value') {
    const value = await answer.make();
    return typeof value === 'string'
      ? { key: '', bytes: Buffer.from(value), contentType: 'text/plain' }
      : { key: '', bytes: Buffer.from(JSON.stringify(value)), contentType: JSON_TYPE };
  }
  const { chunks, contentType, status } = await answer.make();
  const bytes = await allOf(chunks);
  if (status >= 400) {
    const shown = bytes.toString('utf8').slice(0, 500);
    throw new ServingError(status < 500 ? 'BAD_REQUEST' : 'HANDLER_FAILED', shown);
  }
  return { key: '', bytes, contentType: contentType.split(';')[0]!.trim() };
}
