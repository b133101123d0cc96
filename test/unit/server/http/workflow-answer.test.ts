/** Several outputs of a workflow within one JSON: what a function says of its own is not believed. */
import type { FastifyBaseLogger } from 'fastify';
import { expect, it } from 'vitest';
import { ContentBody } from '../../../../server/http/bodies/model-bodies.js';
import { answerWorkflow } from '../../../../server/http/dialects/workflows/workflow-answer.js';
import type { HttpContext } from '../../../../server/http/http-context.js';
import type { WorkflowDescription, WorkflowService } from '../../../../server/requests/workflows.js';

const answered = (text: string, contentType: string) => {
  const part = { key: '', bytes: Buffer.from(text), contentType };
  const values = { a: { kind: 'content', parts: [part] } };
  const workflows = { run: async () => ({ kind: 'named', values }) } as unknown as WorkflowService;
  const workflow = { name: 'w', signature: null } as WorkflowDescription;
  const request = { workflow, body: new ContentBody([]), origin: { requestId: 'r' }, properties: {} };
  const log = {} as FastifyBaseLogger;
  return answerWorkflow({} as HttpContext, workflows, log, request, new AbortController());
};

it.each([
  ['{"b": 1}', 'application/json', { b: 1 }],
  ['{', 'text/plain', '{'],
  ['{', 'image/png', 'ew=='],
])('%s of %s is told as it is', async (text, type, told) => {
  const answer = await answered(text, type);
  expect(answer.kind === 'value' && (await answer.make())).toEqual({ a: told });
});

it('one that is no JSON, and says so, is its function’s fault', async () => {
  await expect(answered('{', 'application/json')).rejects.toMatchObject({ code: 'HANDLER_FAILED' });
});
