/** The Open Inference Protocol over gRPC, asked by grpc-js's own client: text and tensors, streams, errors, keys, health, reflection. */

import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:http2';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  type Client,
  credentials,
  loadPackageDefinition,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { protoPath as healthProto } from 'grpc-health-check';
import descriptor from 'protobufjs/ext/descriptor/index.js';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { OnnxWriter } from '../../../partitioner/graph/onnx-writer.js';
import { protoFile } from '../../../proto/proto-file.js';
import { AccessControl } from '../../../server/access/access-control.js';
import { OnnxEngine } from '../../../server/engines/onnx/onnx-engine.js';
import {
  createGrpcServer,
  type GrpcServer,
  type GrpcServerOptions,
} from '../../../server/grpc/grpc-server.js';
import { type InferResponseMessage, PROTO_OPTIONS } from '../../../server/grpc/oip-messages.js';
import { reflected } from '../../../server/grpc/reflected.js';
import type { TimeParts } from '../../../server/requests/request-times.js';
import { WorkLoadManager } from '../../../server/work-load-manager/work-load-manager.js';
import { LogRecorder } from '../../fixtures/log-recorder.js';
import { OIP_SCOPES } from '../../support/access-table.js';
import { FAKE_CONFIG } from '../../support/fake-model.js';
import { managementOf } from '../../support/http-fake-management.js';
import { aborted, FakeService, model } from '../../support/http-fixtures.js';

interface Described {
  name: string;
  field: { name: string; typeName: string }[];
  nestedType: Described[];
  options: { mapEntry: boolean } | null;
}
const { FileDescriptorProto } = descriptor as unknown as {
  FileDescriptorProto: {
    decode(bytes: Uint8Array): {
      name: string;
      package: string;
      dependency: string[];
      messageType: Described[];
    };
  };
};

type Answer = Record<string, unknown>;
type Stub = Client & Record<string, (...args: unknown[]) => unknown>;

const REFLECTION_PROTO = createRequire(import.meta.url).resolve(
  '@grpc/reflection/build/proto/grpc/reflection/v1/reflection.proto',
);
const NO_KEYS = { apiKey: null, managementKey: null, keyFile: null, anonymousScopes: null };
const text = (value: string) => {
  const bytes = Buffer.from(value);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  return Buffer.concat([length, bytes]);
};
const textOf = (response: InferResponseMessage) =>
  Buffer.from(response.raw_output_contents[0]!).toString('utf8', 4);

const servers: GrpcServer[] = [];
const stubs: Stub[] = [];
afterEach(async () => {
  for (const stub of stubs.splice(0)) stub.close();
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

function stubOf(address: string, file: string, name: string): Stub {
  const definition = loadPackageDefinition(loadSync(file, PROTO_OPTIONS));
  const Service = name.split('.').reduce<unknown>((at, part) => (at as Answer)[part], definition);
  const stub = new (Service as new (...args: unknown[]) => Stub)(address, credentials.createInsecure());
  stubs.push(stub);
  return stub;
}

async function start(fields: Partial<GrpcServerOptions> = {}) {
  const service = new FakeService();
  const server = createGrpcServer({
    address: { kind: 'tcp', host: '127.0.0.1', port: 0, path: '' },
    service,
    management: managementOf(service),
    access: new AccessControl(NO_KEYS, () => {}),
    version: '1.2.3',
    modelStore: '/models',
    maxMessageBytes: 64 * 1024,
    drainTimeoutMs: 1000,
    stallLimitMs: 60_000,
    ...fields,
  });
  servers.push(server);
  const address = await server.listen();
  return {
    server,
    service,
    address,
    stub: stubOf(address, protoFile('open_inference.proto'), 'inference.GRPCInferenceService'),
  };
}

const call = <T = Answer>(
  stub: Stub,
  method: string,
  message: object,
  metadata = new Metadata(),
): Promise<T> =>
  new Promise((resolve, reject) => {
    stub[method]!(message, metadata, (error: ServiceError | null, answer: T) =>
      error ? reject(error) : resolve(answer),
    );
  });

/** A call by HTTP/2 itself; `frame` makes a message of it. */
function rawStream(address: string, name: string) {
  const definitions = loadSync(protoFile('open_inference.proto'), PROTO_OPTIONS);
  const { [name]: method } = definitions['inference.GRPCInferenceService'] as unknown as Record<
    string,
    { path: string; requestSerialize(message: object): Buffer }
  >;
  const session = connect(`http://${address}`);
  session.on('error', () => {});
  const stream = session.request({
    ...{ ':method': 'POST', ':path': method!.path, te: 'trailers' },
    'content-type': 'application/grpc',
  });
  stream.on('error', () => {});
  const frame = (request: object): Buffer => {
    const message = method!.requestSerialize(request);
    const head = Buffer.alloc(5);
    head.writeUInt32BE(message.length, 1);
    return Buffer.concat([head, message]);
  };
  return { frame, session, stream };
}

const textRequest = (prompt: string, more: object = {}) => ({
  model_name: 'mlp',
  id: 'r1',
  inputs: [{ name: 'text_input', datatype: 'BYTES', shape: [1] }],
  raw_input_contents: [text(prompt)],
  ...more,
});

describe('a text model over gRPC', () => {
  it('tells that it is live, ready, and what it takes', async () => {
    const { stub } = await start();
    expect(await call(stub, 'ServerLive', {})).toEqual({ live: true });
    expect(await call(stub, 'ServerReady', {})).toEqual({ ready: true });
    expect(await call(stub, 'ModelReady', { name: 'mlp' })).toEqual({ ready: true });
    expect(await call(stub, 'ServerMetadata', {})).toMatchObject({ name: 'shardserve', version: '1.2.3' });
    expect(await call(stub, 'ModelMetadata', { name: 'mlp' })).toMatchObject({
      name: 'mlp',
      inputs: [{ name: 'text_input', datatype: 'BYTES', shape: ['1'] }, {}, {}],
    });
  });

  it('tells statistics and a configuration as Triton does', async () => {
    const counts = {
      ...{ name: 'mlp', version: '', lastEndedAtMs: 1_700_000_000_000, succeeded: 3, failed: 1 },
      ...{ executions: 7, requestUs: 4000, queuedJobs: 4, queueUs: 100, computeUs: 3000 },
    };
    const { stub } = await start({ statistics: () => [counts] });
    const duration = (count: string, ns: string) => ({ count, ns });
    const stats = {
      ...{
        name: 'mlp',
        version: '',
        last_inference: '1700000000000',
        inference_count: '3',
        execution_count: '7',
      },
      inference_stats: {
        success: duration('3', '3000000'),
        fail: duration('1', '1000000'),
        queue: duration('4', '100000'),
        compute_input: duration('0', '0'),
        compute_infer: duration('7', '3000000'),
        compute_output: duration('0', '0'),
      },
      batch_stats: [],
    };
    expect(await call(stub, 'ModelStatistics', {})).toEqual({ model_stats: [stats] });
    expect(await call(stub, 'ModelStatistics', { name: 'mlp' })).toEqual({ model_stats: [stats] });
    await expect(call(stub, 'ModelStatistics', { name: 'no' })).rejects.toMatchObject({
      code: status.NOT_FOUND,
    });
    const { config } = await call<{ config: Answer }>(stub, 'ModelConfig', { name: 'mlp' });
    expect(config).toMatchObject({
      ...{ name: 'mlp', backend: 'shardserve', max_batch_size: 0 },
      input: expect.arrayContaining([{ name: 'text_input', data_type: 'TYPE_STRING', dims: ['1'] }]),
      instance_group: [{ kind: 'KIND_CPU', count: 1 }],
      model_transaction_policy: { decoupled: true },
    });
  });

  it('answers a prompt whole, with parameters from the input and from the request', async () => {
    const { service, stub } = await start();
    const answer = await call<InferResponseMessage>(stub, 'ModelInfer', {
      ...textRequest('Once', { parameters: { max_tokens: { int64_param: 2 } } }),
      inputs: [
        { name: 'text_input', datatype: 'BYTES', shape: [1] },
        { name: 'sampling_parameters', datatype: 'BYTES', shape: [1] },
      ],
      raw_input_contents: [text('Once'), text('{"temperature": 0.5}')],
    });
    expect(textOf(answer)).toBe(' w1 w2');
    expect(answer).toMatchObject({
      model_name: 'mlp',
      id: 'r1',
      outputs: [{ name: 'text_output', datatype: 'BYTES' }],
    });
    expect(service.submitted[0]!.request).toMatchObject({
      prompt: { kind: 'text', text: 'Once' },
      maxNewTokens: 2,
      sampling: { temperature: 0.5 },
    });
  });

  it('tells where its time went: in the trailing metadata, and request by request of a stream', async () => {
    const told: TimeParts[] = [];
    const { service, stub } = await start({ onAnswered: (parts) => told.push(parts) });
    const now = performance.now();
    // So long ago that the parts are known: 40 ms in the queue, 250 in the model.
    service.times = { queuedAtMs: now - 300, startedAtMs: now - 260, endedAtMs: now - 10 };
    const trailer = await new Promise<Metadata>((resolve, reject) => {
      const running = stub.ModelInfer!(
        textRequest('x'),
        new Metadata(),
        (error: unknown) => error && reject(error),
      );
      (
        running as Client & {
          on: (event: string, listener: (status: { metadata: Metadata }) => void) => void;
        }
      ).on('status', ({ metadata }) => resolve(metadata));
    });
    expect(String(trailer.get('server-timing')[0])).toMatch(
      /^total;dur=[\d.]+, container;dur=[\d.]+, queue;dur=40\.00, model;dur=250\.00, overhead;dur=[\d.]+$/,
    );
    await expect.poll(() => told.length).toBe(1);
    const { containerMs, model: of, modelMs, totalMs } = told[0]!;
    expect([of, Math.round(modelMs)]).toEqual(['mlp', 250]);
    expect(totalMs).toBeGreaterThanOrEqual(containerMs);
    const stream = stub.ModelStreamInfer!() as unknown as AsyncIterable<unknown> & {
      write(message: object): void;
      end(): void;
    };
    for (const name of ['mlp', 'absent', 'mlp']) stream.write(textRequest('x', { model_name: name }));
    stream.end();
    for await (const _ of stream);
    // A model that is not there was asked nothing.
    await expect.poll(() => told.length).toBe(3);
    expect(told.slice(1).map(({ modelMs: ms }) => Math.round(ms))).toEqual([250, 250]);
  });

  it('counts the time from its head on, and what its message took to come is not its own', async () => {
    const told: TimeParts[] = [];
    const { address, service } = await start({ onAnswered: (parts) => told.push(parts) });
    const now = performance.now();
    service.times = { queuedAtMs: now, startedAtMs: now, endedAtMs: now };
    const { frame, session, stream } = rawStream(address, 'ModelInfer');
    const pinged = () => new Promise((resolve) => session.ping(resolve));
    // What was sent before it is there when it comes back.
    await pinged();
    const headMs = performance.now();
    await pinged();
    const sentMs = performance.now();
    stream.end(frame(textRequest('Once')));
    await expect.poll(() => told.length).toBe(1);
    session.destroy();
    const { containerMs, totalMs } = told[0]!;
    expect(totalMs - containerMs).toBeGreaterThanOrEqual(sentMs - headMs);
  });

  it('streams a response a token, tells the last, and goes on after an error', async () => {
    const { stub } = await start();
    const stream = stub.ModelStreamInfer!() as unknown as AsyncIterable<{
      error_message: string;
      infer_response: InferResponseMessage;
    }> & { write(message: object): void; end(): void };
    stream.write({ ...textRequest('x'), model_name: 'absent', id: 'bad' });
    stream.write(
      textRequest('Once', {
        inputs: [
          { name: 'text_input', datatype: 'BYTES', shape: [1] },
          { name: 'stream', datatype: 'BOOL', shape: [1] },
        ],
        raw_input_contents: [text('Once'), Buffer.from([1])],
        parameters: {
          max_tokens: { int64_param: 3 },
          triton_enable_empty_final_response: { bool_param: true },
        },
      }),
    );
    stream.end();
    const [errors, texts, finals]: [string[], string[], (boolean | undefined)[]] = [[], [], []];
    for await (const { error_message: error, infer_response: response } of stream) {
      if (error !== '') {
        errors.push(`${response.id}: ${error}`);
        continue;
      }
      if (response.raw_output_contents.length > 0) texts.push(textOf(response));
      finals.push(response.parameters?.triton_final_response?.bool_param);
    }
    expect(errors).toEqual(['bad: Model not found: absent']);
    expect(texts).toEqual([' w1', ' w2', ' w3']);
    expect(finals).toEqual([false, false, false, true]);
  });

  it("tells what Triton's vLLM backend tells beside the text, where it is asked for, whole and streamed", async () => {
    const asked = [
      'finish_reason',
      'cumulative_logprob',
      'logprobs',
      'num_input_tokens',
      'num_output_tokens',
    ];
    const flag = (name: string) => ({ name, datatype: 'BOOL', shape: [1] });
    const message = {
      ...textRequest('Once', { parameters: { logprobs: { int64_param: 1 } } }),
      inputs: [
        { name: 'text_input', datatype: 'BYTES', shape: [1] },
        ...asked.map((name) => flag(`return_${name}`)),
        flag('stream'),
      ],
    };
    const contents = (stream: boolean) => [
      text('Once'),
      ...asked.map(() => Buffer.of(1)),
      Buffer.of(stream ? 1 : 0),
    ];
    const { service, stub } = await start();
    const outputs = ({ outputs: heads, raw_output_contents: raw }: InferResponseMessage) =>
      Object.fromEntries(
        heads.map(({ datatype, name }, index) => {
          const bytes = Buffer.from(raw[index]!);
          if (datatype === 'BYTES') return [name, bytes.toString('utf8', 4)];
          return [name, datatype === 'FP32' ? bytes.readFloatLE() : bytes.readUInt32LE()];
        }),
      );
    const whole = await call<InferResponseMessage>(stub, 'ModelInfer', {
      ...message,
      raw_input_contents: contents(false),
    });
    expect(outputs(whole)).toEqual({
      ...{ text_output: ' w1 w2 w3', finish_reason: 'stop', cumulative_logprob: -1.5, num_input_tokens: 1 },
      ...{ num_output_tokens: 3, logprobs: expect.stringContaining('"101":{"logprob":-0.25,"rank":1,') },
    });
    expect(service.submitted[0]!.request).toMatchObject({ logprob: true, topLogprobs: 1 });
    const stream = stub.ModelStreamInfer!() as unknown as AsyncIterable<{
      infer_response: InferResponseMessage;
    }> & { write(message: object): void; end(): void };
    stream.write({ ...message, raw_input_contents: contents(true) });
    stream.end();
    const told: Record<string, unknown>[] = [];
    for await (const { infer_response: response } of stream) told.push(outputs(response));
    expect(told.map(({ finish_reason: reason }) => reason)).toEqual(['None', 'None', 'None', 'stop']);
    expect(told.map(({ num_output_tokens: tokens }) => tokens)).toEqual([1, 1, 1, 0]);
    expect(told.map(({ cumulative_logprob: sum }) => sum)).toEqual([-0.25, -0.75, -1.5, -1.5]);
  });

  it.each([
    ['an unknown model', { ...textRequest('x'), model_name: 'absent' }, status.NOT_FOUND, /absent/],
    ['no prompt', { model_name: 'mlp', inputs: [] }, status.INVALID_ARGUMENT, /text_input is missing/],
    [
      'a parameter out of its range',
      textRequest('x', { parameters: { temperature: { double_param: -1 } } }),
      status.INVALID_ARGUMENT,
      /temperature must be a number of at least 0 and of at most 2, got -1/,
    ],
    [
      'a stream where one answer is asked for',
      textRequest('x', {
        inputs: [
          { name: 'text_input', datatype: 'BYTES', shape: [1] },
          { name: 'stream', datatype: 'BOOL', shape: [1] },
        ],
        raw_input_contents: [text('x'), Buffer.of(1)],
      }),
      status.INVALID_ARGUMENT,
      /stream is true: that needs generate_stream, or ModelStreamInfer by gRPC/,
    ],
    [
      'a string that is cut off',
      textRequest('x', { raw_input_contents: [Buffer.from([9, 0, 0, 0, 65])] }),
      status.INVALID_ARGUMENT,
      /text_input has 5 bytes/,
    ],
    [
      'a message over the limit',
      textRequest('x'.repeat(70_000)),
      status.RESOURCE_EXHAUSTED,
      /larger than max/,
    ],
  ])('refuses %s', async (_what, message, code, sentence) => {
    const { stub } = await start();
    await expect(call(stub, 'ModelInfer', message)).rejects.toMatchObject({
      code,
      details: expect.stringMatching(sentence),
    });
  });

  it('takes priorities as HTTP does: a caller without a key has a narrow range', async () => {
    const { service, stub } = await start();
    const withPriority = (value: string) => {
      const metadata = new Metadata();
      metadata.set('x-priority', value);
      return call(stub, 'ModelInfer', textRequest('x'), metadata);
    };
    await expect(withPriority('-2147483648')).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringMatching(/x-priority.*-2147483648/),
    });
    await withPriority('-3');
    expect(service.submitted[0]!.request.priority).toBe(-3);
  });

  it('ends the job of a client that cancels', async () => {
    const { service, stub } = await start();
    service.words = null;
    const running = stub.ModelInfer!(textRequest('x'), new Metadata(), () => {}) as { cancel(): void };
    const job = await service.request(0);
    running.cancel();
    await new Promise<void>((resolve) => {
      if (job.signal.aborted) resolve();
      else job.signal.addEventListener('abort', () => resolve(), { once: true });
    });
    expect(job.signal.aborted).toBe(true);
  });

  it('takes nothing new while it drains', async () => {
    const { server, stub } = await start();
    server.setDraining();
    await expect(call(stub, 'ModelInfer', textRequest('x'))).rejects.toMatchObject({
      code: status.UNAVAILABLE,
    });
    expect(await call(stub, 'ServerReady', {})).toEqual({ ready: false });
  });
});

describe('keys over gRPC', () => {
  /** Every method of the service; a new one without a line fails. */
  const METHODS: Readonly<Record<string, object>> = {
    ServerLive: {},
    ServerReady: {},
    ModelReady: { name: 'mlp' },
    ServerMetadata: {},
    ModelMetadata: { name: 'mlp' },
    ModelConfig: { name: 'mlp' },
    ModelStatistics: {},
    ModelInfer: textRequest('x'),
    ModelStreamInfer: textRequest('x'),
    RepositoryIndex: {},
    RepositoryModelLoad: { model_name: '..' },
    RepositoryModelUnload: { model_name: 'mlp' },
  };
  const definitions = loadSync(protoFile('open_inference.proto'), PROTO_OPTIONS);
  const service = definitions['inference.GRPCInferenceService'] as unknown as Record<
    string,
    { requestStream: boolean }
  >;

  it('are asked for by every method that the server lists, but for the probes', async () => {
    const { address } = await start();
    const reflection = stubOf(address, REFLECTION_PROTO, 'grpc.reflection.v1.ServerReflection');
    const stream = reflection.ServerReflectionInfo!() as never as AsyncIterable<Answer> & {
      write(message: object): void;
      end(): void;
    };
    stream.write({ list_services: '' });
    stream.end();
    const listed: string[] = [];
    for await (const answer of stream) {
      const { service: found } = answer.list_services_response as { service: { name: string }[] };
      listed.push(...found.map(({ name }) => name));
    }
    // Those of reflection and health tell what the server is made of, and that it lives.
    expect(listed).toEqual(['inference.GRPCInferenceService']);
    for (const lines of [METHODS, OIP_SCOPES])
      expect(Object.keys(lines).sort()).toEqual(Object.keys(service).sort());
  });

  it.each(Object.entries(METHODS))('%s', async (method, message) => {
    const scope = OIP_SCOPES[method];
    const access = new AccessControl({ ...NO_KEYS, apiKey: 'infer-key', managementKey: 'all-key' }, () => {});
    const told: object[] = [];
    const { stub } = await start({ access, audit: (facts) => told.push(facts) });
    const codeWith = async (key: string | null): Promise<number> => {
      const metadata = new Metadata();
      if (key !== null) metadata.set('authorization', `Bearer ${key}`);
      if (service[method]!.requestStream) {
        const stream = stub[method]!(metadata) as AsyncIterable<Answer> & {
          write(message: object): void;
          end(): void;
        };
        stream.write(message);
        stream.end();
        try {
          for await (const _ of stream);
          return status.OK;
        } catch (error) {
          return (error as ServiceError).code;
        }
      }
      return call(stub, method, message, metadata).then(
        () => status.OK,
        (error: ServiceError) => error.code,
      );
    };
    const refused: number[] = [status.UNAUTHENTICATED, status.PERMISSION_DENIED];
    expect(refused.includes(await codeWith(null)), 'without a key').toBe(scope !== null);
    expect(refused.includes(await codeWith('wrong')), 'with an unknown key').toBe(scope !== null);
    expect(refused.includes(await codeWith('infer-key')), 'with a key to infer').toBe(scope === 'manage');
    expect(refused.includes(await codeWith('all-key')), 'with a key for all').toBe(false);
    if (!/ModelLoad|ModelUnload/.test(method)) {
      expect(told).toEqual([]);
      return;
    }
    expect(told.map((facts) => (facts as { key: string | null }).key)).toEqual([
      ...[null, null, 'api_key', 'management_key'],
    ]);
    expect(told.slice(0, 3)).toMatchObject([
      { method, code: 'UNAUTHENTICATED' },
      { code: 'UNAUTHENTICATED' },
      { code: 'FORBIDDEN' },
    ]);
  });

  it('have their limits: of calls, and of each request of a stream', async () => {
    const access = new AccessControl({ ...NO_KEYS, keyRequestsPerMinute: 2 }, () => {});
    const { stub } = await start({ access });
    await call(stub, 'ModelInfer', textRequest('x'));
    const stream = stub.ModelStreamInfer!() as never as AsyncIterable<{ error_message: string }> & {
      write(message: object): void;
      end(): void;
    };
    stream.write(textRequest('x'));
    stream.write(textRequest('x'));
    stream.end();
    const errors: string[] = [];
    for await (const { error_message: error } of stream) errors.push(error);
    expect(errors.filter(Boolean)).toEqual([
      expect.stringMatching(/^Requests without a key may send 2 requests a minute; try again in \d+ s$/),
    ]);
    await expect(call(stub, 'ModelInfer', textRequest('x'))).rejects.toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
      metadata: expect.objectContaining({}),
    });
  });
});

it('more connections than there may be are closed at once', async () => {
  const { address, stub } = await start({ maxConnections: 1 });
  expect(await call(stub, 'ServerLive', {})).toEqual({ live: true });
  const session = connect(`http://${address}`);
  session.on('error', () => {});
  await once(session, 'close');
  expect(await call(stub, 'ServerLive', {})).toEqual({ live: true });
});

describe('messages that are still being sent', () => {
  const MIB = 2 ** 20;
  const FULL = String(status.RESOURCE_EXHAUSTED);

  /** A call whose message has not ended; resolves with its status once the server says one. */
  function upload(address: string, bytes: number, headers: Record<string, string> = {}) {
    const session = connect(`http://${address}`);
    session.on('error', () => {});
    const stream = session.request({
      ...{ ':method': 'POST', ':path': '/inference.GRPCInferenceService/ModelInfer', te: 'trailers' },
      ...{ 'content-type': 'application/grpc', ...headers },
    });
    stream.on('error', () => {});
    stream.resume();
    const told = new Promise<string>((resolve) => {
      const tell = (given: Record<string, unknown>): void => {
        if (given['grpc-status'] !== undefined) resolve(String(given['grpc-status']));
      };
      stream.once('response', tell);
      stream.once('trailers', tell);
    });
    const head = Buffer.alloc(5);
    if (headers['grpc-encoding'] !== undefined) head[0] = 1;
    head.writeUInt32BE(bytes, 1);
    stream.write(head);
    stream.write(Buffer.alloc(bytes - 1));
    return { told, end: () => session.destroy() };
  }

  it('are cut off early without a key, and compressed ones at once', async () => {
    const access = new AccessControl({ ...NO_KEYS, apiKey: 'infer-key' }, () => {});
    const { address } = await start({ access, maxMessageBytes: MIB });
    const calls = [upload(address, 900_000), upload(address, 100, { 'grpc-encoding': 'gzip' })];
    for (const { end, told } of calls) {
      expect(await told).toBe(String(status.UNAUTHENTICATED));
      end();
    }
  });

  it('are counted over all calls, and what has ended gives its bytes back', async () => {
    const { address, stub } = await start({ maxMessageBytes: MIB });
    const calls = [upload(address, 900_000), upload(address, 900_000)];
    const refused = await Promise.race(calls.map(async ({ told }, index) => ({ index, code: await told })));
    expect(refused.code).toBe(FULL);
    // A small one goes beside them.
    expect(textOf(await call(stub, 'ModelInfer', textRequest('Once')))).toContain('w1');
    for (const { end } of calls) end();
    for (;;) {
      const again = upload(address, 900_000);
      const code = await Promise.race([
        again.told,
        call(stub, 'ServerLive', {})
          .then(() => call(stub, 'ServerReady', {}))
          .then(() => 'goes on'),
      ]);
      again.end();
      if (code === 'goes on') break;
    }
  });
});

describe('a reader of a stream that takes nothing', () => {
  /** grpc-js's client reads on whatever its reader does: this one has a window, and closes it. */
  const deafStream = (address: string) => rawStream(address, 'ModelStreamInfer');

  it('is given up also where all it sends is refused: no heap of refusals grows', async () => {
    const access = new AccessControl(NO_KEYS, () => {});
    const begin = vi.spyOn(access.limits, 'begin');
    const { address } = await start({ access, stallLimitMs: 500 });
    const { frame, session, stream } = deafStream(address);
    const refused = frame(textRequest('Once', { model_name: 'x'.repeat(200) }));
    const over = once(session, 'close');
    setTimeout(() => session.destroy(), 300);
    while (!stream.destroyed)
      if (!stream.write(refused)) await Promise.race([over, once(stream, 'drain').catch(() => {})]);
    // What its window holds, and what waits for it; where they were written unread they were thousands.
    expect(begin.mock.calls.length).toBeGreaterThan(100);
    expect(begin.mock.calls.length).toBeLessThan(1000);
  });

  it('of one answer is given up after the limit', async () => {
    const { address, service } = await start({ stallLimitMs: 100 });
    service.words = null;
    const { frame, session, stream } = rawStream(address, 'ModelInfer');
    stream.end(frame(textRequest('Once')));
    const job = await service.request(0);
    job.token('x'.repeat(1_000_000));
    job.finish('length');
    // Its window holds 64 KB of it, and it never says that there is room for more.
    await once(stream, 'close');
    expect(stream.readableEnded).toBe(false);
    session.destroy();
  });

  it('is given up after the limit, and its requests end', async () => {
    const { address, service } = await start({ stallLimitMs: 100 });
    service.words = null;
    const { frame, session, stream } = deafStream(address);
    const asked = frame(
      textRequest('Once', {
        inputs: [
          { name: 'text_input', datatype: 'BYTES', shape: [1] },
          { name: 'stream', datatype: 'BOOL', shape: [1] },
        ],
        raw_input_contents: [text('Once'), Buffer.from([1])],
      }),
    );
    stream.write(asked);
    const job = await service.request(0);
    const left = aborted(job.signal);
    for (let at = 0; at < 400; at++) job.token('x'.repeat(20_000));
    await left;
    session.destroy();
  });
});

describe('an ONNX model over gRPC', () => {
  let folder = '';
  const log = new LogRecorder();
  const manager = new WorkLoadManager({ engineOf: () => new OnnxEngine(), logger: log.logger });
  beforeAll(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'shardserve-grpc-'));
    const graph = new OnnxWriter('double');
    graph.node('Mul', [graph.input('x', 'float32', ['n', 2]), graph.floats('two', [2], [])], ['y']);
    graph.output('y', 'float32', ['n', 2]);
    writeFileSync(path.join(folder, 'model.onnx'), graph.encode('test'));
    await manager.load({ ...FAKE_CONFIG, name: 'double', engine: 'onnx', folder });
  });
  afterAll(async () => {
    await manager.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it.each([
    ['raw', { raw_input_contents: [Buffer.from(new Float32Array([1, -2, 3, 0.5]).buffer)] }, null],
    ['typed', {}, { fp32_contents: [1, -2, 3, 0.5] }],
  ])('answers tensors given %s', async (_how, more, contents) => {
    const { stub } = await start({ service: manager, management: manager });
    const answer = await call<InferResponseMessage>(stub, 'ModelInfer', {
      model_name: 'double',
      inputs: [{ name: 'x', datatype: 'FP32', shape: [2, 2], ...(contents && { contents }) }],
      ...more,
    });
    expect(answer.outputs).toMatchObject([{ name: 'y', datatype: 'FP32', shape: ['2', '2'] }]);
    const bytes = Uint8Array.from(answer.raw_output_contents[0]!);
    expect([...new Float32Array(bytes.buffer)]).toEqual([2, -4, 6, 1]);
    expect(await call(stub, 'ModelMetadata', { name: 'double' })).toMatchObject({
      platform: 'onnxruntime_onnx',
      inputs: [{ name: 'x', datatype: 'FP32', shape: ['-1', '2'] }],
    });
  });

  it('refuses contents of another type', async () => {
    const { stub } = await start({ service: manager, management: manager });
    const inputs = [{ name: 'x', datatype: 'FP32', shape: [1, 2], contents: { int_contents: [1, 2] } }];
    await expect(call(stub, 'ModelInfer', { model_name: 'double', inputs })).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: 'Input x is FP32, but its contents are in int_contents: fp32_contents is its place',
    });
  });

  it('is in the index of the repository', async () => {
    const { stub } = await start({ service: manager, management: manager });
    expect(await call(stub, 'RepositoryIndex', {})).toEqual({
      models: [{ name: 'double', version: '', state: 'READY', reason: '' }],
    });
  });
});

describe('the server over gRPC', () => {
  it('answers the health protocol, and reflects its services', async () => {
    const { address, server, service } = await start();
    service.statuses = [model('mlp')];
    const health = stubOf(address, healthProto, 'grpc.health.v1.Health');
    expect(await call(health, 'check', { service: '' })).toEqual({ status: 'SERVING' });
    server.setDraining();
    expect(await call(health, 'check', { service: 'inference.GRPCInferenceService' })).toEqual({
      status: 'NOT_SERVING',
    });
    const reflection = stubOf(address, REFLECTION_PROTO, 'grpc.reflection.v1.ServerReflection');
    const stream = reflection.ServerReflectionInfo!() as unknown as AsyncIterable<{
      list_services_response: { service: { name: string }[] };
    }> & { write(message: object): void; end(): void };
    stream.write({ list_services: '' });
    stream.end();
    const names: string[] = [];
    for await (const { list_services_response: list } of stream)
      names.push(...list.service.map(({ name }) => name));
    expect(names).toContain('inference.GRPCInferenceService');
    const asked = reflection.ServerReflectionInfo!() as unknown as AsyncIterable<{
      file_descriptor_response: { file_descriptor_proto: Buffer[] };
    }> & { write(message: object): void; end(): void };
    asked.write({ file_containing_symbol: 'inference.ModelInferRequest' });
    asked.end();
    for await (const { file_descriptor_response: found } of asked) {
      const [file] = found.file_descriptor_proto.map((bytes) => FileDescriptorProto.decode(bytes));
      const message = file!.messageType.find(({ name }) => name === 'ModelInferRequest')!;
      // As protoc names a map's entries: clients in Go take no other name.
      expect(message.nestedType.filter(({ options }) => options?.mapEntry).map(({ name }) => name)).toEqual([
        'ParametersEntry',
      ]);
      expect(message.field.find(({ name }) => name === 'parameters')!.typeName).toBe('ParametersEntry');
    }
  });

  it('reflects what its files need of each other', () => {
    const definition = loadSync(protoFile('torchserve_inference.proto'), PROTO_OPTIONS);
    const service = reflected([definition])['org.pytorch.serve.grpc.inference.PredictionsRequest'];
    const files = (service as unknown as { fileDescriptorProtos: Buffer[] }).fileDescriptorProtos.map(
      (bytes) => FileDescriptorProto.decode(bytes),
    );
    const own = files.find((file) => file.package === 'org.pytorch.serve.grpc.inference')!;
    expect(own.dependency).toEqual(
      files.filter((file) => file.package === 'google.protobuf').map(({ name }) => name),
    );
    expect(own.dependency).toHaveLength(1);
  });
});
