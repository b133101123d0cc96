/** The Open Inference Protocol over HTTP: tensors as JSON and as bytes, texts, handlers, generate, what is told of models. */
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Client, credentials, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { protoFile } from '../../../proto/proto-file.js';
import { HandlerEngine } from '../../../server/engines/handlers/handler-engine.js';
import { OnnxEngine } from '../../../server/engines/onnx/onnx-engine.js';
import { createGrpcServer } from '../../../server/grpc/grpc-server.js';
import { type InferResponseMessage, PROTO_OPTIONS } from '../../../server/grpc/oip-messages.js';
import { ServerMetrics } from '../../../server/metrics/server-metrics.js';
import { unpackStrings } from '../../../server/requests/tensor-types.js';
import { WorkLoadManager } from '../../../server/work-load-manager/work-load-manager.js';
import { LogRecorder } from '../../fixtures/log-recorder.js';
import { FAKE_CONFIG } from '../../support/fake-model.js';
import { startServer, type TestServer } from '../../support/http-fixtures.js';
import { listenerWarnings } from '../../support/listener-warnings.js';
import { repositoryRoot } from '../../support/repository-root.js';

const HANDLER = `export const handle = async (data, context) =>
  data === null ? null : data.map((row) => String(row.data).toUpperCase());`;
const X = [1, 2, 3, 4, 5, 6, 7, 8];

describe('models of tensors and handlers', () => {
  const scratch = mkdtempSync(path.join(tmpdir(), 'shardserve-oip-'));
  let manager: WorkLoadManager;
  let http: TestServer;
  const post = async (target: string, body: unknown, headers: Record<string, string> = {}) => {
    const response = await fetch(`${http.url}/v2${target}`, {
      method: 'POST',
      headers,
      body: Buffer.isBuffer(body) ? new Uint8Array(body) : JSON.stringify(body),
    });
    const bytes = Buffer.from(await response.arrayBuffer());
    return { status: response.status, headers: response.headers, bytes };
  };
  const json = async (target: string) => (await fetch(`${http.url}/v2${target}`)).json();

  beforeAll(async () => {
    const onnx = new OnnxEngine();
    const handler = new HandlerEngine();
    const metrics = new ServerMetrics({
      ...{ prometheus: false, version: '1', processMetrics: false, lines: null, host: 'h' },
    });
    manager = new WorkLoadManager({
      engineOf: ({ engine }) => (engine === 'onnx' ? onnx : handler),
      logger: new LogRecorder().logger,
      observe: ({ name, version }, sample) => metrics.observe({ name, version }, sample),
    });
    for (const name of ['mlp', 'shout']) mkdirSync(path.join(scratch, name));
    cpSync(
      path.join(repositoryRoot, 'test/golden/onnx-models/mlp.onnx'),
      path.join(scratch, 'mlp/model.onnx'),
    );
    writeFileSync(path.join(scratch, 'shout/model.js'), HANDLER);
    const config = {
      ...FAKE_CONFIG,
      stepTimeoutSeconds: 20,
      jobQueueSize: 32,
      modelLoadingTimeoutSeconds: 120,
      handlerMemoryMb: 512,
    };
    await manager.load({ ...config, name: 'mlp', folder: path.join(scratch, 'mlp'), engine: 'onnx' });
    await manager.load({ ...config, name: 'shout', folder: path.join(scratch, 'shout'), engine: 'handler' });
    http = await startServer({}, null, { service: manager, management: manager, metrics });
  });
  afterAll(async () => {
    await manager.close();
    await http.server.close();
    rmSync(scratch, { recursive: true, force: true });
  });

  it('tells of the server and its models', async () => {
    expect(await json('')).toMatchObject({ name: 'shardserve' });
    expect([await json('/health/live'), await json('/health/ready')]).toEqual([
      { live: true },
      { ready: true },
    ]);
    expect(await json('/models/mlp')).toMatchObject({
      ...{ name: 'mlp', platform: 'onnxruntime_onnx' },
      ...{
        inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 8] }],
        outputs: [{ name: 'y', datatype: 'FP32' }],
      },
    });
    expect(await json('/models/mlp/ready')).toEqual({ name: 'mlp', ready: true });
    expect(await json('/models/mlp/config')).toMatchObject({
      ...{ name: 'mlp', backend: 'onnxruntime' },
      ...{ input: [{ name: 'x', data_type: 'TYPE_FP32', dims: [-1, 8] }] },
    });
    expect(await json('/models/none')).toEqual({ error: 'Model not found: none' });
    const index = await post('/repository/index', { ready: true });
    expect(JSON.parse(index.bytes.toString())).toMatchObject([
      ...[{ name: 'mlp', state: 'READY', reason: '' }, { name: 'shout' }],
    ]);
  });

  it('infers by JSON and by bytes, in each direction, to the same numbers', async () => {
    const listed = { name: 'x', shape: [1, 8], datatype: 'FP32', data: X };
    const whole = await post('/models/mlp/infer', { id: 'one', inputs: [listed] });
    const answer = JSON.parse(whole.bytes.toString());
    expect([whole.status, answer.id, answer.model_name, answer.outputs[0].shape]).toEqual([
      200,
      'one',
      'mlp',
      [1, 3],
    ]);

    const raw = Buffer.from(Float32Array.from(X).buffer);
    const head = JSON.stringify({
      inputs: [{ name: 'x', shape: [1, 8], datatype: 'FP32', parameters: { binary_data_size: raw.length } }],
      outputs: [{ name: 'y', parameters: { binary_data: true } }],
    });
    const length = { 'Inference-Header-Content-Length': String(Buffer.byteLength(head)) };
    const binary = await post('/models/mlp/infer', Buffer.concat([Buffer.from(head), raw]), length);
    const at = Number(binary.headers.get('inference-header-content-length'));
    const told = JSON.parse(binary.bytes.toString('utf8', 0, at));
    expect(told.outputs).toEqual([
      { name: 'y', datatype: 'FP32', shape: [1, 3], parameters: { binary_data_size: 12 } },
    ]);
    const numbers = [0, 4, 8].map((byte) => binary.bytes.readFloatLE(at + byte));
    for (const [index, number] of numbers.entries())
      expect(number).toBeCloseTo(answer.outputs[0].data[index], 6);

    const { model_stats: stats } = (await json('/models/mlp/stats')) as {
      model_stats: Record<string, unknown>[];
    };
    expect(stats[0]).toMatchObject({
      name: 'mlp',
      inference_count: 2,
      inference_stats: { success: { count: 2 } },
    });
  });

  it('asks a handler for each element', async () => {
    const input = { name: 'text', shape: [2], datatype: 'BYTES', data: ['a', 'b'] };
    const { bytes } = await post('/models/shout/infer', { inputs: [input] });
    expect(JSON.parse(bytes.toString()).outputs).toEqual([
      { name: 'output', datatype: 'BYTES', shape: [2], data: ['A', 'B'] },
    ]);
    expect(await json('/models/shout')).toMatchObject({
      inputs: [{ name: 'input', datatype: 'BYTES', shape: [-1] }],
      outputs: [{ name: 'output', datatype: 'BYTES', shape: [-1] }],
    });
  });

  it('asks a handler for each element by gRPC too', async () => {
    const grpc = createGrpcServer({
      ...{
        address: { kind: 'tcp', host: '127.0.0.1', port: 0, path: '' },
        version: '1',
        modelStore: scratch,
      },
      ...{ service: manager, management: manager, access: http.server.context.access },
      ...{ maxMessageBytes: 65_536, drainTimeoutMs: 1000, stallLimitMs: 60_000 },
    });
    const definition = loadPackageDefinition(
      loadSync(protoFile('open_inference.proto'), PROTO_OPTIONS),
    ) as never as {
      inference: {
        GRPCInferenceService: new (
          ...args: unknown[]
        ) => Client & Record<string, (...args: unknown[]) => unknown>;
      };
    };
    const stub = new definition.inference.GRPCInferenceService(
      await grpc.listen(),
      credentials.createInsecure(),
    );
    const ask = (texts: readonly string[]) => {
      const contents = { bytes_contents: texts.map((one) => Buffer.from(one)) };
      const inputs = [{ name: 'text', datatype: 'BYTES', shape: [texts.length], contents }];
      return new Promise<InferResponseMessage>((resolve, reject) => {
        stub.ModelInfer!({ model_name: 'shout', inputs }, (error: unknown, told: InferResponseMessage) =>
          error ? reject(error) : resolve(told),
        );
      });
    };
    const answer = await ask(['a', 'b']);
    expect(answer.outputs).toMatchObject([{ name: 'output', datatype: 'BYTES', shape: ['2'] }]);
    expect(unpackStrings('output', answer.raw_output_contents[0]!, 2).map(String)).toEqual(['A', 'B']);
    const many = Array.from({ length: 32 }, (_, index) => `t${index}`);
    expect(await listenerWarnings(() => ask(many))).toEqual([]);
    stub.close();
    await grpc.close();
  });

  it.each(['infer', 'explain'])('a handler takes so many elements and no more: %s', async (what) => {
    const data = Array.from({ length: 257 }, () => 'a');
    const inputs = [{ name: 'text', shape: [257], datatype: 'BYTES', data }];
    const { bytes, status } = await post(`/models/shout/${what}`, { inputs });
    expect([status, JSON.parse(bytes.toString())]).toEqual([
      400,
      { error: 'A handler takes at most 256 elements, got 257' },
    ]);
  });

  it.each([
    ['no inputs', { a: 1 }, {}, /inputs must be a list/],
    ['another shape', { inputs: [{ name: 'x', shape: [8], datatype: 'FP32', data: X }] }, {}, /./],
    [
      'too few data',
      { inputs: [{ name: 'x', shape: [2, 8], datatype: 'FP32', data: X }] },
      {},
      /8 elements.*has 16/,
    ],
    [
      'no bytes behind',
      { inputs: [{ name: 'x', shape: [1, 8], datatype: 'FP32', parameters: { binary_data_size: 32 } }] },
      {},
      /binary_data_size of x is 32, but 0 bytes/,
    ],
    [
      'a header too long',
      { inputs: [] },
      { 'Inference-Header-Content-Length': '9999' },
      /must be a whole number up to/,
    ],
  ])('refuses %s', async (_what, body, headers, sentence) => {
    const { bytes, status } = await post('/models/mlp/infer', body, headers as Record<string, string>);
    expect([status, JSON.parse(bytes.toString())]).toEqual([400, { error: expect.stringMatching(sentence) }]);
  });
});

describe('a language model', () => {
  let http: TestServer;
  beforeAll(async () => {
    http = await startServer();
  });
  afterAll(() => http.server.close());
  const post = async (target: string, body: unknown) => {
    const response = await fetch(`${http.url}/v2/models/mlp${target}`, {
      method: 'POST',
      body: JSON.stringify(body),
    });
    return {
      status: response.status,
      type: response.headers.get('content-type'),
      text: await response.text(),
    };
  };

  it('takes text_input by tensors', async () => {
    const { text } = await post('/infer', {
      inputs: [{ name: 'text_input', shape: [1], datatype: 'BYTES', data: ['Once'] }],
      parameters: { max_tokens: 2, temperature: 0 },
    });
    expect(JSON.parse(text).outputs).toEqual([
      { name: 'text_output', datatype: 'BYTES', shape: [1], data: [' w1 w2'] },
    ]);
    expect(http.service.submitted[0]!.request).toMatchObject({
      maxNewTokens: 2,
      sampling: { temperature: 0 },
    });
  });

  it("speaks Triton's generate, whole and streamed", async () => {
    const asked = { text_input: 'Once', parameters: { max_tokens: 2, exclude_input_in_output: false } };
    const whole = await post('/generate', asked);
    expect(JSON.parse(whole.text)).toEqual({
      model_name: 'mlp',
      model_version: '',
      text_output: 'Once w1 w2',
    });
    const streamed = await post('/generate_stream', { text_input: 'Once', max_tokens: 2 });
    expect(streamed.type).toBe('text/event-stream');
    const texts = streamed.text
      .trim()
      .split('\n\n')
      .map((event) => JSON.parse(event.slice(6)).text_output);
    expect(texts).toEqual([' w1', ' w2']);
    const more = {
      return_finish_reason: true,
      return_num_output_tokens: true,
      return_num_input_tokens: true,
    };
    const told = await post('/generate', { ...asked, ...more });
    expect(JSON.parse(told.text)).toMatchObject({
      ...{ text_output: 'Once w1 w2', finish_reason: 'length', num_output_tokens: 2, num_input_tokens: 1 },
    });
    const last = (await post('/generate_stream', { text_input: 'Once', ...more })).text
      .trim()
      .split('\n\n')
      .at(-1);
    expect(JSON.parse(last!.slice(6))).toMatchObject({ text_output: '', finish_reason: 'stop' });
    expect((await post('/generate', { ...asked, return_finish_reason: 'yes' })).status).toBe(400);
    const bad = await post('/generate', { prompt: 'x' });
    expect([bad.status, Object.keys(JSON.parse(bad.text))]).toEqual([400, ['error']]);
  });
});
