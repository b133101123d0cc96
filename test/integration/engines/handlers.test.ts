/** Handlers: code in a model's folder, in DJLServing's and TorchServe's shapes, batched and streamed; what goes wrong in one is told, and harms nobody else. */
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ModelConfig } from '../../../server/config/config.js';
import { HandlerEngine } from '../../../server/engines/handlers/handler-engine.js';
import { WorkLoadManager } from '../../../server/work-load-manager/work-load-manager.js';
import { readAll } from '../../fixtures/generate-requests.js';
import { LogRecorder } from '../../fixtures/log-recorder.js';
import { FAKE_CONFIG } from '../../support/fake-model.js';
import { startServer, type TestServer } from '../../support/http-fixtures.js';
import { repositoryRoot } from '../../support/repository-root.js';

/** DJLServing's shape, in TypeScript with a file of its own. */
const DJL = `
import { Input, Output } from 'shardserve/handler';
import { shout } from './words';
let warm = 0;
export async function handle(inputs: Input): Promise<Output | null> {
  if (inputs.isEmpty()) { warm += 1; console.log('warmed up'); return null; }
  if (inputs.getProperty('x-want') === 'stream') {
    const pieces = async function* () { for (const n of [1, 2, 3]) yield { n }; };
    return new Output().addStreamContent(pieces()).addProperty('x-made-by', 'handler');
  }
  const output = new Output(inputs.getProperty('x-want') === 'teapot' ? 418 : 200);
  for (const [index, one] of inputs.getBatches().entries()) {
    const type = one.getProperty('content-type') ?? '';
    const text = type.startsWith('application/json') ? JSON.stringify(one.getAsJson()) : one.getAsString();
    output.add({ text: shout(text), warm, batch: inputs.getBatchSize(), keys: one.getKeys(), key: one.getProperty('authorization') }, null, index);
  }
  return output;
}`;
const WORDS = 'export const shout = (text: string): string => text.toUpperCase();';

/** TorchServe's shape: methods of BaseHandler, over the folder's ONNX model. */
const TORCH = `
import { BaseHandler } from 'shardserve/handler';
import { Tensor } from 'onnxruntime-node';
export default class Classifier extends BaseHandler {
  async preprocess(data) {
    const rows = data.map((one) => (one.body ?? one.data).x).flat();
    return { x: new Tensor('float32', Float32Array.from(rows), [rows.length / 8, 8]) };
  }
  async inference(feeds) {
    // The folder's model, opened.
    return this.context.model.run(feeds);
  }
  async postprocess({ y }) {
    this.context.metrics.addCounter('Rows', y.dims[0]);
    this.context.setResponseHeader(0, 'x-first', 'yes');
    return Array.from({ length: y.dims[0] }, (_, row) => y.data.slice(row * 3, row * 3 + 3));
  }
}`;

/** Each request says what is to go wrong. */
const FAULTS = `
import { existsSync, writeFileSync } from 'node:fs';
import { Output, sendIntermediatePredictResponse, PredictionException } from 'shardserve/handler';
export async function handle(data, context) {
  if (data === null) return null;
  const hoard = [];
  // Several may be together, in any order: the one that says so.
  switch (data.map(({ body }) => body).find((body) => body.length > 1)) {
    case 'throw': return explode();
    case 'reject': return Promise.reject(new TypeError('turned down'));
    case 'hang': for (;;);
    case 'never': return new Promise(() => {});
    case 'buffers': for (;;) hoard.push(Buffer.alloc(64 * 1024 * 1024, 1));
    case 'ten gigabytes': return [new ArrayBuffer(10 * 1024 ** 3).byteLength];
    case 'heap': for (;;) hoard.push({ a: [hoard.length] });
    case 'exit': return process.exit(3);
    case 'later': setTimeout(() => { throw new Error('out of the blue'); }, 0); return new Promise(() => {});
    case 'long': return ['one', 'two'];
    case 'text': return 'no list';
    case 'circle': { const one = {}; one.self = one; return [one]; }
    case 'refuse': throw new PredictionException('not today', 507);
    case 'half': {
      const at = data.findIndex(({ body }) => body === 'half');
      sendIntermediatePredictResponse(['a'], [context.requestIds[at]], 'ok', 200, context);
      throw new PredictionException('too late', 507);
    }
    case 'pieces':
      sendIntermediatePredictResponse(['a', 'b'].slice(0, 1), context.requestIds, 'ok', 200, context);
      sendIntermediatePredictResponse(['b'], context.requestIds, 'ok', 200, context);
      return ['c'];
    case 'once': {
      const flag = context.systemProperties.model_dir + '/once';
      if (existsSync(flag)) return data.map((one) => 'fine: ' + one.body);
      writeFileSync(flag, '');
      console.log('waits to be killed');
      return new Promise(() => {});
    }
    case 'ready': process.send?.('ready'); return ['still here'];
    case 'env': return [{ env: Object.keys(process.env), id: context.getRequestId(0) === context.requestIds[0] }];
    default: return data.map((one) => 'fine: ' + one.body);
  }
}
function explode() { throw new Error('went off'); }`;

describe('handlers', () => {
  const scratch = mkdtempSync(path.join(tmpdir(), 'shardserve-handlers-'));
  const log = new LogRecorder();
  let manager: WorkLoadManager;
  let http: TestServer;

  const configOf = (name: string, more: Partial<ModelConfig> = {}): ModelConfig => ({
    ...FAKE_CONFIG,
    ...{ name, folder: path.join(scratch, name), engine: 'handler', batchSize: 4, maxBatchDelayMs: 5 },
    ...{
      stepTimeoutSeconds: 20,
      modelLoadingTimeoutSeconds: 120,
      retryThreshold: 20,
      jobQueueSize: 100,
      handlerMemoryMb: 512,
    },
    ...more,
  });
  const folderOf = (name: string, files: Readonly<Record<string, string>>): void => {
    mkdirSync(path.join(scratch, name));
    for (const [file, text] of Object.entries(files)) writeFileSync(path.join(scratch, name, file), text);
  };

  beforeAll(async () => {
    manager = new WorkLoadManager({ engineOf: () => new HandlerEngine(), logger: log.logger });
    http = await startServer({}, null, { service: manager, management: manager });
    folderOf('djl', { 'model.ts': DJL, 'words.ts': WORDS });
    folderOf('torch', { 'model.mjs': TORCH });
    cpSync(
      path.join(repositoryRoot, 'test/golden/onnx-models/mlp.onnx'),
      path.join(scratch, 'torch', 'mlp.onnx'),
    );
    folderOf('faults', { 'model.js': FAULTS });
    for (const name of ['djl', 'torch', 'faults'])
      await manager.load(configOf(name, name === 'faults' ? { batchSize: 1 } : {}));
  });
  afterAll(async () => {
    await manager.close();
    await http.server.close();
    rmSync(scratch, { recursive: true, force: true });
  });

  const ask = (name: string, body: string | Uint8Array | FormData, headers: Record<string, string> = {}) =>
    fetch(`${http.url}/predictions/${name}`, { method: 'POST', headers, body: body as string });
  const plain = { 'content-type': 'text/plain' };

  it('are warmed up by an empty call, and see text, JSON and headers but no key', async () => {
    const json = await ask('djl', '{"a": [1]}', {
      'content-type': 'application/json',
      authorization: 'Bearer secret',
    });
    expect(await json.json()).toEqual({ text: '{"A":[1]}', warm: 1, batch: 1, keys: [''], key: null });
    expect(json.headers.get('content-type')).toBe('application/json');
    const form = new FormData();
    form.set('data', 'hello');
    expect(await (await ask('djl', form)).json()).toMatchObject({ text: 'HELLO', keys: ['data'] });
    expect((await ask('djl', 'x', { ...plain, 'x-want': 'teapot' })).status).toBe(418);
    expect(await log.find((line) => line.msg === 'handler: warmed up')).toBeDefined();
  });

  it('answer each request of a batch by its place', async () => {
    const texts = Array.from({ length: 24 }, (_, index) => `text ${index}`);
    const answers = await Promise.all(
      texts.map(
        async (text) => (await (await ask('djl', text, plain)).json()) as { text: string; batch: number },
      ),
    );
    expect(answers.map(({ text }) => text)).toEqual(texts.map((text) => text.toUpperCase()));
    expect(Math.max(...answers.map(({ batch }) => batch))).toBeGreaterThan(1);
  });

  it('stream', async () => {
    const response = await ask('djl', '', { ...plain, 'x-want': 'stream' });
    expect(response.headers.get('content-type')).toBe('application/jsonlines');
    expect(response.headers.get('x-made-by')).toBe('handler');
    expect(await response.text()).toBe('{"n":1}\n{"n":2}\n{"n":3}\n');
    expect(await (await ask('faults', 'pieces', plain)).text()).toBe('abc');
    // As libraries tell whoever has started them.
    expect(await (await ask('faults', 'ready', plain)).text()).toBe('still here');
  });

  it('override steps of TorchServe’s BaseHandler, with a session of the ONNX model as context.model', async () => {
    const json = { 'content-type': 'application/json' };
    const x = [0.1, -0.2, 0.3, 0.5, -1, 2, 0, 1];
    const responses = await Promise.all([
      ask('torch', JSON.stringify({ x }), json),
      ask('torch', JSON.stringify({ x }), json),
    ]);
    for (const response of responses) {
      const chances = (await response.json()) as number[];
      expect(chances).toHaveLength(3);
      expect(chances.reduce((sum, one) => sum + one, 0)).toBeCloseTo(1, 5);
    }
    const { metric } = await log.find((line) => /^Rows\.Count:/.test(String(line.metric)));
    expect(metric).toMatch(/^Rows\.Count:[12]\|#ModelName:torch,Level:Model\|type:counter$/);
  });

  it.each([
    ['throw', 424, /"error":"went off"/],
    ['reject', 424, /"error":"turned down"/],
    ['long', 424, /number of batch response mismatched: 2 answers to 1 requests/],
    ['text', 424, /Invalid model predict output/],
    ['circle', 424, /an answer cannot be JSON/],
    ['refuse', 507, /not today/],
    ['buffers', 424, /"error":"Array buffer allocation failed"/],
    ['ten gigabytes', 424, /"error":"Array buffer allocation failed"/],
  ] as const)('that %s are told by %i', async (fault, status, words) => {
    const response = await ask('faults', fault, plain);
    const text = await response.text();
    expect(response.status, text).toBe(status);
    expect(text).toMatch(words);
    expect(text).not.toMatch(/model\.js|node:/);
    expect(await (await ask('djl', 'beside', plain)).json()).toMatchObject({ text: 'BESIDE' });
    expect(await (await ask('faults', 'ok', plain)).text()).toBe('fine: ok');
  });

  it.each([
    ['heap', 503, /The process of the handler ended by/],
    ['exit', 503, /The process of the handler ended by code 3/],
    ['later', 503, /The process of the handler ended by code 1/],
    ['hang', 503, /The process of the handler did not answer in 2000 ms/],
    ['never', 503, /The process of the handler did not answer in 2000 ms/],
  ] as const)(
    'whose process ends (%s) fail with %i, harm nobody else, and serve again',
    async (fault, status, words) => {
      const name = `faults-${fault}`;
      folderOf(name, { 'model.js': FAULTS });
      await manager.load(
        configOf(name, {
          batchSize: 1,
          ...(fault === 'heap' ? { handlerMemoryMb: 128 } : { stepTimeoutSeconds: 2 }),
        }),
      );
      const response = await ask(name, fault, plain);
      const text = await response.text();
      expect(response.status, text).toBe(status);
      expect(text).toMatch(words);
      expect(await (await ask('djl', 'beside', plain)).json()).toMatchObject({ text: 'BESIDE' });
      expect(await (await ask(name, 'ok', plain)).text()).toBe('fine: ok');
      await manager.unregister(name, null);
    },
  );

  describe('of which several requests go together', () => {
    const name = 'faults-together';
    const together = (texts: readonly string[]) =>
      Promise.all(
        texts.map(async (text) => {
          const response = await ask(name, text, plain);
          return [response.status, await response.text()] as const;
        }),
      );
    beforeAll(async () => {
      folderOf(name, { 'model.js': FAULTS });
      // A batch is full with four: none waits for its delay.
      const more = { batchSize: 4, maxBatchDelayMs: 60_000, stepTimeoutSeconds: 2 };
      await manager.load(configOf(name, { ...more, requestRetries: 2, retryThreshold: 2 }));
    });

    it.each([
      ['throw', 424, /"error":"went off"/],
      ['refuse', 507, /not today/],
      ['exit', 503, /ended by code 3; it did so again when the request ran alone/],
      ['never', 503, /did not answer in 2000 ms; it did so again when the request ran alone/],
    ] as const)(
      'only the one that is wrong (%s) fails, and the model serves on',
      async (fault, status, words) => {
        // More often than retry_threshold allows deaths.
        for (const _ of fault === 'exit' ? [1, 2] : [1]) {
          const [[code, text] = [], ...others] = await together([fault, 'b', 'c', 'd']);
          expect(code, text).toBe(status);
          expect(text).toMatch(words);
          expect(others).toEqual(['b', 'c', 'd'].map((one) => [200, `fine: ${one}`]));
        }
        expect(manager.describe(name, null)[0]).toMatchObject({ state: 'READY' });
      },
    );

    it('one that is refused when a part of it was told is not run again, and ends there; the others are', async () => {
      const others = together(['b', 'c', 'd']);
      const content = [{ key: '', bytes: Buffer.from('half'), contentType: 'text/plain' }];
      const { events } = await manager.submit(
        { kind: 'invoke', requestId: 'half', model: name, version: null, content, properties: {} },
        new AbortController().signal,
      );
      const half = await readAll(events);
      expect(half.error).toMatchObject({ code: 'HANDLER_FAILED', message: 'too late' });
      expect(half.events).toMatchObject([
        { kind: 'head', status: 200 },
        { kind: 'chunk', bytes: Buffer.from('a') },
      ]);
      expect(await others).toEqual(['b', 'c', 'd'].map((one) => [200, `fine: ${one}`]));
    });

    it('one whose process was killed from outside is answered all the same', async () => {
      const answers = together(['once', 'b', 'c', 'd']);
      await log.find((line) => line.msg === 'handler: waits to be killed');
      process.kill(manager.describe(name, null)[0]!.groups[0]!.ranks[0]!.pid!, 'SIGKILL');
      expect(await answers).toEqual(['once', 'b', 'c', 'd'].map((text) => [200, `fine: ${text}`]));
    });
  });

  it('have the stack of a throw in the log, by the lines of their sources', async () => {
    await ask('faults', 'throw', plain);
    const { stack } = await log.find((line) => line.msg === 'a handler threw');
    expect(stack).toMatch(/Error: went off\n {4}at explode \(.*faults\/model\.js:43:28\)/);
  });

  it('see no environment', async () => {
    const { env, id } = (await (await ask('faults', 'env', plain)).json()) as { env: string[]; id: boolean };
    expect(
      env.filter(
        (name) => !/^(?:NODE_CHANNEL|NODE_V8_COVERAGE|SHARDSERVE_(?:KERNELS|PARENT_PID))/.test(name),
      ),
    ).toEqual([]);
    expect(id).toBe(true);
  });

  it.each([
    ['syntax', 'export const handle = (x: number) => { return }}', /model\.ts:1:48: Unexpected "}"/],
    [
      'nothing',
      'export const handles = 1;',
      /neither a function handle nor exactly one class .*; it exports handles/,
    ],
    ['import', "import './absent';", /model\.ts:1:8: Could not resolve ".\/absent"/],
    [
      'initialise',
      'export class A { initialize() { throw new Error("no weights"); } handle() {} }',
      /: no weights$/,
    ],
    ['top-level', 'throw new Error("at once");', /: at once$/],
  ])('that cannot be loaded (%s) are told by the line', async (name, source, words) => {
    folderOf(name, { 'model.ts': source });
    await expect(manager.load(configOf(name))).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: expect.stringMatching(words),
    });
  });
});
