/**
 * One node of a workflow as DJLServing's paths ask a model, without a path: by what the model is for.
 *
 * In      the parts of a body, or tensors
 * Out     the answer's bytes, or tensors; where it may stream and does, its chunks as they come
 * Errors  those of the model; a handler's answer of an error status
 */
import type { FastifyBaseLogger } from 'fastify';
import { ServingError } from '../../../../proto/errors.js';
import type { Tenant } from '../../../requests/addressed-request.js';
import { clientController } from '../../../requests/client-controller.js';
import type { ContentPart } from '../../../requests/invoke-request.js';
import type { PredictRequest } from '../../../requests/predict-request.js';
import type { ModelStatus } from '../../../requests/service.js';
import type { Target } from '../../../requests/target.js';
import type { NodeCall, NodeStream, NodeValue } from '../../../requests/workflows.js';
import { type Answer, allOf } from '../../answers/answer.js';
import { answerHandler } from '../../answers/handler-answer.js';
import { answerTensors } from '../../answers/tensor-answer.js';
import { bodyTooDeep } from '../../bodies/json-body.js';
import { ContentBody, TensorBody } from '../../bodies/model-bodies.js';
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
  async (model, value, { mayStream, signal, timeoutMs }) => {
    const status = context.service.models().find(({ name }) => name === model);
    if (status === undefined)
      throw new ServingError('MODEL_NOT_FOUND', `Model or workflow not found: ${model}`);
    const client = clientController();
    const leave = (): void => client.abort();
    signal.addEventListener('abort', leave, { once: true });
    if (signal.aborted) leave();
    const target: Target = { ...origin, model, version: null, timeoutMs };
    let isStream = false;
    try {
      if (value.kind === 'tensors') return await predicted(context, value, target, client.signal);
      const node = { status, parts: value.parts, properties, target, client, mayStream };
      const outcome = await outcomeOf(await answered(context, log, node), model, mayStream);
      isStream = 'chunks' in outcome;
      return 'chunks' in outcome ? outcome : { kind: 'content', parts: [outcome] };
    } finally {
      // A stream goes on, and is given up with the request.
      if (!isStream) signal.removeEventListener('abort', leave);
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

interface AskedNode {
  status: ModelStatus;
  parts: readonly ContentPart[];
  properties: Readonly<Record<string, string>>;
  target: Target;
  client: AbortController;
  mayStream: boolean;
}

function answered(
  context: HttpContext,
  log: FastifyBaseLogger,
  { client, mayStream, parts, properties, status, target }: AskedNode,
): Promise<Answer> {
  if (status.task === 'handler')
    return answerHandler(context, new ContentBody(parts), properties, target, client);
  const value = bodyOf(parts);
  if (status.task === 'tensors') return answerTensors(context, new TensorBody(value), status, target, client);
  const isText = typeof value === 'string';
  const body =
    isText || Array.isArray(value)
      ? { inputs: value }
      : { ...(value as object), ...(!mayStream && { stream: false }) };
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

/** @throws ServingError: a stream in the middle of a workflow; an answer of an error status */
async function outcomeOf(
  answer: Answer,
  model: string,
  mayStream: boolean,
): Promise<ContentPart | NodeStream> {
  if (answer.kind === 'stream') {
    if (!mayStream) throw new ServingError('BAD_REQUEST', `Model ${model} streams its answers`);
    const { contentType, frames } = answer;
    const head = { status: 200, contentType, headers: {}, isStream: true };
    return { kind: 'stream', head, chunks: frames.texts, broken: frames.broken };
  }
  if (answer.kind === 'value') {
    const value = await answer.make();
    return typeof value === 'string'
      ? { key: '', bytes: Buffer.from(value), contentType: 'text/plain' }
      : { key: '', bytes: Buffer.from(JSON.stringify(value)), contentType: JSON_TYPE };
  }
  const { chunks, ...head } = await answer.make();
  if (mayStream && head.isStream && head.status < 400) return { kind: 'stream', head, chunks, broken: null };
  const bytes = await allOf(chunks);
  if (head.status >= 400) {
    const shown = bytes.toString('utf8').slice(0, 500);
    throw new ServingError(head.status < 500 ? 'BAD_REQUEST' : 'HANDLER_FAILED', shown);
  }
  return { key: '', bytes, contentType: head.contentType.split(';')[0]!.trim() };
}
