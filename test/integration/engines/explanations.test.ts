/** /explanations over HTTP: of an ONNX model's number, of a handler's, and what is not explained. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { OnnxWriter } from '../../../partitioner/graph/onnx-writer.js';
import { HandlerEngine } from '../../../server/engines/handlers/handler-engine.js';
import { OnnxEngine } from '../../../server/engines/onnx/onnx-engine.js';
import { WorkLoadManager } from '../../../server/work-load-manager/work-load-manager.js';
import { LogRecorder } from '../../fixtures/log-recorder.js';
import { FAKE_CONFIG } from '../../support/fake-model.js';
import { postJson, startServer, type TestServer } from '../../support/http-fixtures.js';

const WEIGHT = [0.5, -1, 2, 0.25, 3, -0.125];

/** x [n, 3] → chances [n, 2] = softmax(x · W) */
function classifier(): Uint8Array {
  const graph = new OnnxWriter('classifier');
  const x = graph.input('x', 'float32', ['n', 3]);
  const logits = graph.node('MatMul', [x, graph.floats('w', WEIGHT, [3, 2])], ['logits']);
  graph.node('Softmax', [logits], ['chances']);
  graph.output('chances', 'float32', ['n', 2]);
  return graph.encode('test');
}

/** Its number is a sum of what words weigh. */
const HANDLER = `
import { Output } from 'shardserve/handler';
const WEIGHTS = { good: 2, bad: -3, very: 0.5 };
export function handle(inputs) {
  if (inputs.isEmpty()) return null;
  const output = new Output();
  for (const [index, one] of inputs.getBatches().entries()) {
    const text = one.getProperty('content-type')?.startsWith('text/') ? one.getAsString() : one.getAsJson().text;
    if (text === 'wait') return new Promise(() => {});
    const joy = text.split(' ').reduce((sum, word) => sum + (WEIGHTS[word] ?? 0), 1);
    output.add({ joy, inner: { half: joy / 2 }, words: text }, null, index);
  }
  return output;
}`;

/** It explains itself, whatever it is asked. */
const OWN = `
import { BaseHandler } from 'shardserve/handler';
export class Own extends BaseHandler {
  async inference(data) { return data.map((one) => ({ said: one })); }
  async explainHandle(data, raw) { return data.map((one, at) => ({ because: one, of: Object.keys(raw[at]) })); }
}`;

interface Explanation {
  method: string;
  importances: number[];
  score: number;
  base: number;
  delta: number;
  [more: string]: unknown;
}

describe('explanations', () => {
  const root = mkdtempSync(path.join(tmpdir(), 'shardserve-explanations-'));
  let manager: WorkLoadManager;
  let http: TestServer;

  beforeAll(async () => {
    const engines = { onnx: new OnnxEngine(), handler: new HandlerEngine() };
    manager = new WorkLoadManager({
      engineOf: ({ engine }) => engines[engine as 'onnx' | 'handler'],
      logger: new LogRecorder().logger,
    });
    http = await startServer({}, null, { service: manager, management: manager });
    for (const [name, file, content, engine] of [
      ['classes', 'model.onnx', classifier(), 'onnx'],
      ['joy', 'model.mjs', HANDLER, 'handler'],
      ['own', 'model.mjs', OWN, 'handler'],
    ] as const) {
      mkdirSync(path.join(root, name));
      writeFileSync(path.join(root, name, file), content);
      await manager.load({
        ...{ ...FAKE_CONFIG, name, engine, folder: path.join(root, name) },
        ...{ batchSize: 8, maxBatchDelayMs: 1, jobQueueSize: 100, modelLoadingTimeoutSeconds: 120 },
      });
    }
  });
  afterAll(async () => {
    await manager.close();
    await http.server.close();
    rmSync(root, { recursive: true, force: true });
  });

  const ask = async (target: string, body: unknown, more: Readonly<Record<string, string>> = {}) => {
    const isText = typeof body === 'string';
    const response = await fetch(`${http.url}/explanations/${target}`, {
      method: 'POST',
      headers: { 'content-type': isText ? 'text/plain' : 'application/json', ...more },
      body: isText ? body : JSON.stringify(body),
    });
    return { status: response.status, body: (await response.json()) as Explanation & { message: string } };
  };
  const chance = (x: readonly number[], at: number): number => {
    const powers = [0, 1].map((column) =>
      Math.exp(x.reduce((sum, value, row) => sum + value * WEIGHT[row * 2 + column]!, 0)),
    );
    return powers[at]! / (powers[0]! + powers[1]!);
  };
  const X = [0.4, -0.3, 0.2];

  it.each(['shapley', 'integrated_gradients'])('of a chance by %s are complete', async (method) => {
    const { body, status } = await ask(`classes?method=${method}&target=1&samples=8&steps=30`, {
      inputs: { x: [X] },
    });
    expect([status, body.message]).toEqual([200, undefined]);
    expect(body).toMatchObject({ method, input: 'x', shape: [1, 3], target: 1 });
    expect(body.score).toBeCloseTo(chance(X, 1), 5);
    expect(body.base).toBeCloseTo(0.5, 5);
    const sum = body.importances.reduce((total, one) => total + one, 0);
    expect(Math.abs(sum - (body.score - body.base))).toBeLessThan(method === 'shapley' ? 1e-9 : 1e-3);
    // What raises the chance counts for it.
    expect(body.importances.map(Math.sign)).toEqual([-1, 1, -1]);
  });

  it('by occlusion are what each element is worth', async () => {
    const { body } = await ask('classes?method=occlusion&target=0', { inputs: { x: [X] } });
    X.forEach((_, at) => {
      expect(body.importances[at]).toBeCloseTo(chance(X, 0) - chance(X.with(at, 0), 0), 5);
    });
    expect((await ask('classes', { inputs: { x: [X] } })).body.target).toBe(chance(X, 0) > 0.5 ? 0 : 1);
  });

  it('of a handler’s number are of the words of its text, in TorchServe’s shape', async () => {
    const { body } = await ask('joy?method=shapley&target=joy', { text: 'a very good bad day', more: 1 });
    expect(body).toMatchObject({
      words: ['a', 'very', 'good', 'bad', 'day'],
      target: 'joy',
      score: 0.5,
      base: 1,
    });
    expect(body.importances).toEqual([0, 0.5, 2, -3, 0].map((one) => expect.closeTo(one, 9)));
    expect(Math.abs(body.delta)).toBeLessThan(1e-9);
    const inner = await ask('joy?method=occlusion&target=inner.half', 'good day');
    expect(inner.body.importances).toEqual([1, 0]);
  });

  it('of a handler that explains itself are its own', async () => {
    expect((await ask('own', 'a text')).body).toEqual({ because: 'a text', of: ['body'] });
    expect((await ask('own', { image: [1, 2] })).body).toEqual({ because: { image: [1, 2] }, of: ['body'] });
    const predicted = await postJson(`${http.url}/predictions/own`, { image: 1 });
    expect(JSON.parse(predicted.text)).toEqual({ said: { image: 1 } });
  });

  it.each([
    ['joy?method=integrated_gradients', { text: 'a' }, 400, /has no gradients/],
    ['joy?target=words', { text: 'a' }, 400, /no number at words/],
    ['joy', { image: 1 }, 400, /no text in text, data, inputs/],
    ['joy?method=magic', { text: 'a' }, 400, /method must be shapley, occlusion, integrated_gradients/],
    ['joy?samples=0', { text: 'a' }, 400, /samples must be a whole number from 1 to 256/],
    ['classes?target=5', { inputs: { x: [X] } }, 400, /target is 5; the output has elements 0 … 1/],
    ['classes?output=y', { inputs: { x: [X] } }, 400, /no output y/],
    ['absent', { text: 'a' }, 404, /not found: absent/],
  ])('%s is refused in a sentence', async (target, body, status, words) => {
    const refused = await ask(target, body);
    expect([refused.status, refused.body.message]).toEqual([status, expect.stringMatching(words)]);
  });

  it('have one deadline, however many requests they make', async () => {
    // The handler answers the whole text, and never its second word alone.
    const late = await ask('joy?method=occlusion&target=joy', 'good wait', { 'x-request-timeout-ms': '300' });
    expect([late.status, late.body.message]).toEqual([
      400,
      expect.stringMatching(/^The explanation was not there after 300 ms: fewer samples/),
    ]);
  });
});
