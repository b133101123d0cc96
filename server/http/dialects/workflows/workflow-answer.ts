/**
 * Answers a request by a workflow.
 *
 * In      the body's parts; the workflow
 * Out     an Answer: one output as it is, streamed where its node streams; several as JSON by name; an ensemble's tensors in the form of the question
 * Errors  those of its nodes
 */
import type { FastifyBaseLogger } from 'fastify';
import { ServingError } from '../../../../proto/errors.js';
import type { ContentPart } from '../../../requests/invoke-request.js';
import type {
  NodeStream,
  NodeValue,
  WorkflowDescription,
  WorkflowService,
} from '../../../requests/workflows.js';
import type { Answer } from '../../answers/answer.js';
import { bodyTooDeep } from '../../bodies/json-body.js';
import type { ContentBody } from '../../bodies/model-bodies.js';
import { tensorsAsJson, tensorsOfJson } from '../../bodies/tensor-json.js';
import type { HttpContext } from '../../http-context.js';
import { type NodeOrigin, nodeCaller } from './node-call.js';

export interface WorkflowRequest {
  workflow: WorkflowDescription;
  body: ContentBody;
  origin: NodeOrigin;
  /** From headers and query. */
  properties: Readonly<Record<string, string>>;
}

export async function answerWorkflow(
  context: HttpContext,
  workflows: WorkflowService,
  log: FastifyBaseLogger,
  { body, origin, properties, workflow }: WorkflowRequest,
  client: AbortController,
): Promise<Answer> {
  const call = nodeCaller(context, log, origin, properties);
  const run = (value: NodeValue) => workflows.run(workflow.name, value, call, client.signal);
  if (workflow.signature !== null) {
    const { form, inputs } = tensorsOfJson(jsonOf(body), workflow.signature);
    const answer = await run({ kind: 'tensors', tensors: inputs });
    if (answer.kind !== 'one' || answer.value.kind !== 'tensors')
      throw new Error('an ensemble answers with tensors');
    const { tensors } = answer.value;
    return { kind: 'value', make: async () => tensorsAsJson(tensors, form) };
  }
  const answer = await run({ kind: 'content', parts: body.parts });
  if (answer.kind === 'stream') return streamed(answer);
  if (answer.kind === 'named') {
    const named = Object.entries(answer.values).map(([name, value]) => [name, shown(partOf(value))]);
    return { kind: 'value', make: async () => Object.fromEntries(named) as unknown };
  }
  const { bytes, contentType } = partOf(answer.value);
  const chunks = (async function* () {
    yield bytes;
  })();
  const head = { status: 200, contentType: contentType ?? 'application/json', headers: {}, isStream: false };
  return { kind: 'content', make: async () => ({ ...head, chunks }) };
}

/** A model's frames, or a handler's chunks with its head. */
function streamed({ broken, chunks, head }: NodeStream): Answer {
  if (broken === null)
    return { kind: 'content', make: async () => ({ ...head, chunks: chunks as AsyncGenerator<Uint8Array> }) };
  const frames = { texts: chunks as AsyncGenerator<string>, broken };
  return { kind: 'stream', contentType: head.contentType, frames };
}

function jsonOf({ parts }: ContentBody): unknown {
  const text = Buffer.from(parts[0]?.bytes ?? []).toString('utf8');
  const tooDeep = bodyTooDeep(text);
  if (tooDeep !== null) throw tooDeep;
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new ServingError('BAD_REQUEST', `The body is not JSON: ${(error as Error).message}`);
  }
}

function partOf(value: NodeValue): ContentPart {
  const part = value.kind === 'content' ? value.parts[0] : undefined;
  if (part === undefined) throw new ServingError('HANDLER_FAILED', 'The workflow has no answer');
  return part;
}

/** Within JSON: JSON and text as they are, bytes as base64. */
function shown({ bytes, contentType }: ContentPart): unknown {
  const text = Buffer.from(bytes).toString('utf8');
  if (contentType?.startsWith('text/')) return text;
  if (contentType !== 'application/json') return Buffer.from(bytes).toString('base64');
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new ServingError('HANDLER_FAILED', 'An answer says that it is JSON, and is not');
  }
}
