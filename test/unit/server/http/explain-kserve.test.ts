/** Explanations of many instances in one request: one limit is for all of them together. */
import type { FastifyRequest } from 'fastify';
import { afterEach, expect, it, vi } from 'vitest';
import { explainKServe } from '../../../../server/http/dialects/torchserve/kserve-answer.js';
import type { HttpContext } from '../../../../server/http/http-context.js';
import { clientLeft } from '../../../../server/jobs/job.js';
import { finishWithoutText } from '../../../../server/requests/job-events.js';

afterEach(() => vi.useRealTimers());

/** Asks a handler that takes a millisecond for an answer. @returns how often it was asked, when the limit is so long */
async function explained(instances: readonly string[], timeoutMs: number) {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  let asked = 0;
  const service = {
    models: () => [{ name: 'm', version: null, task: 'handler' }],
    submit: async (_request: unknown, signal: AbortSignal) => {
      asked += 1;
      vi.advanceTimersByTime(1);
      if (signal.aborted) throw clientLeft();
      return {
        events: (async function* () {
          yield { kind: 'head', status: 200, contentType: 'application/json', headers: {}, isStream: false };
          yield { kind: 'chunk', bytes: Buffer.from('{"a": 0.5}') };
          yield finishWithoutText(0);
        })(),
      };
    },
  };
  const context = { service } as unknown as HttpContext;
  const request = { body: { instances }, headers: {} } as unknown as FastifyRequest;
  const target = { requestId: 'r', model: 'm', version: null, timeoutMs };
  const outcome = await explainKServe(context, request, target, new AbortController()).then(
    ({ explanations }) => explanations.length,
    (error: { code: string }) => error.code,
  );
  return { asked, outcome };
}

it('is the request’s, not each instance’s', async () => {
  const text = 'one two three';
  const { asked, outcome } = await explained([text], 1_000_000);
  expect([outcome, asked > 3]).toEqual([1, true]);
  const all = await explained([text, text, text], asked * 4);
  expect(all).toEqual({ asked: asked * 3, outcome: 3 });
  const late = await explained([text, text, text], Math.ceil(asked * 1.5));
  expect(late.outcome).toBe('REQUEST_TIMEOUT');
  expect(late.asked).toBeLessThanOrEqual(asked * 2);
});
