/**
 * TorchServe's command and its documented curl calls, unchanged, against a handler in a .mar and the embedded language model.
 *
 * Asked by curl itself, as the documentation has it: `-T FILE`, `-F`, `-d`, `-X PUT`, `-H "Authorization: Bearer …"`.
 */
import { execFile } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import {
  type Client,
  credentials,
  loadPackageDefinition,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { protoFile } from '../../proto/proto-file.js';
import { archiveModel } from '../../server/archive-main.js';
import { PROTO_OPTIONS } from '../../server/grpc/oip-messages.js';
import { zipBytes } from '../support/model-store-bytes.js';
import { repositoryRoot } from '../support/repository-root.js';
import { ServerProcess } from '../support/server-process.js';

const run = promisify(execFile);

const HANDLER = `
import { PredictionException, sendIntermediatePredictResponse } from 'shardserve/handler';
let version = '';
export async function handle(data, context) {
  if (data === null) { version = context.modelVersion; return null; }
  const [{ body, data: field }] = data;
  const text = String(body ?? field);
  context.metrics.addCounter('Asked', 1, [['Kind', 'any']]);
  context.metrics.addCounter('Unnamed', 1);
  if (text === 'refuse') throw new PredictionException('Some Prediction Error', 513);
  if (text === 'throw') throw new Error('went off');
  if (text === 'wrong') return 'no list';
  if (text === 'die') process.exit(3);
  if (text === 'stream') {
    for (const piece of ['one ', 'two ']) sendIntermediatePredictResponse([piece], context.requestIds, 'ok', 200, context);
    return ['three'];
  }
  context.setResponseHeader(0, 'x-explain', context.getRequestHeader(0, 'explain'));
  return data.map((row) => ({ version, got: row.body ?? row.data, path: context.getRequestHeader(0, 'url_path') ?? null }));
}`;

/** Of TorchServe's base class: it says of its model what only it knows, and answers with a number of its words. */
const MOOD = `
import { BaseHandler } from 'shardserve/handler';
const WEIGHTS = { good: 2, bad: -3 };
export class Mood extends BaseHandler {
  async inference(data) {
    return data.map((text) => ({ joy: String(text).split(' ').reduce((sum, word) => sum + (WEIGHTS[word] ?? 0), 1) }));
  }
  async describeHandle() {
    return { trainedOn: 'two words', version: this.context.modelVersion };
  }
}`;

/** Addresses are the configuration's. */
const ENVIRONMENT = {
  ...{ SERVING_INFERENCE_ADDRESS: '', SERVING_MANAGEMENT_ADDRESS: '', TENSOR_PARALLEL_DEGREE: '1' },
};

const METRICS = `
dimensions:
  - &level "Level"
ts_metrics:
  counter:
    - {name: Requests2XX, unit: Count, dimensions: [*level]}
    - {name: ts_inference_requests_total, unit: Count, dimensions: [model_name]}
  gauge:
    - {name: MemoryUtilization, unit: Percent, dimensions: [*level]}
model_metrics:
  counter:
    - {name: Asked, unit: Count, dimensions: [Kind]}
  gauge:
    - {name: HandlerTime, unit: ms, dimensions: [*level]}
`;

const work = mkdtempSync(path.join(tmpdir(), 'shardserve-torchserve-'));
const store = path.join(work, 'model-store');
const inFolder = (name: string) => path.join(work, name);
let server: ServerProcess;
let management = '';
let metrics = '';

interface Answer {
  status: number;
  body: string;
  // biome-ignore lint/suspicious/noExplicitAny: answers have many shapes, and tests look into each
  json: any;
  headers: string;
}

/** What curl prints, its status last. */
async function curl(...args: string[]): Promise<Answer> {
  const { stdout } = await run('curl', ['-sS', '-i', '-w', '\n%{http_code}', ...args], { cwd: work });
  const [, rest, status] = /^(.*)\n(\d+)$/s.exec(stdout)!.slice() as [string, string, string];
  // curl -T asks first whether it may send.
  const parts = rest.replace(/^HTTP\/1\.1 100 Continue\r\n\r\n/, '').split('\r\n\r\n');
  const body = parts.slice(1).join('\r\n\r\n');
  let json: unknown = null;
  try {
    json = JSON.parse(body);
  } catch {}
  return { status: Number(status), body, json, headers: parts[0]!.toLowerCase() };
}

const keys = () =>
  JSON.parse(readFileSync(inFolder('key_file.json'), 'utf8')) as Record<string, { key: string }>;
const bearer = (kind: string) => ['-H', `Authorization: Bearer ${keys()[kind]!.key}`];

const FLOW = `
export const pre = async (data, context) => (data === null ? null : data.map(({ body }) => 'pre ' + body));
export const post = async (data, context) => (data === null ? null : data.map(({ body }) => body + ' post'));`;

/** NAME.war of the workflow store. */
function workflow(name: string): void {
  const manifest = { workflow: { workflowName: name, specFile: 'spec.yaml', handler: 'handler.ts' } };
  const files = {
    'WAR-INF/MANIFEST.json': JSON.stringify(manifest),
    'spec.yaml': 'models: {}\ndag: {pre: [post]}\n',
    'handler.ts': FLOW,
  };
  const entries = Object.entries(files).map(([at, text]) => ({ name: at, content: Buffer.from(text) }));
  mkdirSync(inFolder('workflow-store'), { recursive: true });
  writeFileSync(path.join(inFolder('workflow-store'), `${name}.war`), zipBytes(entries));
}

async function archive(version: string, name = 'noop', code = HANDLER): Promise<void> {
  const source = inFolder('handler.ts');
  writeFileSync(source, code);
  const flags = ['--model-name', name, '--version', version, '--handler', source, '--export-path', work];
  const made = await archiveModel([...flags, '--force']);
  const at = path.join(store, version === '1.0' ? `${name}.mar` : `${name}-${version}.mar`);
  writeFileSync(at, readFileSync(made));
}

beforeAll(async () => {
  mkdirSync(store);
  await archive('1.0');
  await archive('2.0');
  await archive('1.0', 'mood', MOOD);
  for (const name of ['flow', 'other']) workflow(name);
  symlinkSync(path.join(repositoryRoot, 'models/embedded'), path.join(store, 'embedded'));
  writeFileSync(
    inFolder('config.properties'),
    `inference_address=http://127.0.0.1:0
management_address=http://127.0.0.2:0
metrics_address=http://127.0.0.3:0
grpc_inference_port=0
grpc_management_port=0
metrics_mode=prometheus
metrics_config=metrics.yaml
default_response_timeout=20
number_of_netty_threads=4
`,
  );
  writeFileSync(inFolder('prompt.txt'), 'Once upon a time');
  writeFileSync(inFolder('metrics.yaml'), METRICS);
  const flags = [
    '--start',
    '--foreground',
    '--model-store',
    store,
    '--enable-model-api',
    ...['--workflow-store', 'workflow-store'],
    '--models',
    'noop.mar',
    'story=embedded',
    'flow.war',
  ];
  const environment = { ...ENVIRONMENT, TMPDIR: work, SERVING_DOWNLOAD_DIR: inFolder('downloads') };
  server = new ServerProcess(environment, [], ['torchserve', ...flags], work);
  await server.ready();
  management = String((await server.line(({ managementUrl }) => managementUrl !== undefined)).managementUrl);
  metrics = String((await server.line(({ metricsUrl }) => metricsUrl !== undefined)).metricsUrl);
}, 180_000);

afterAll(async () => {
  await server?.stop();
  rmSync(work, { recursive: true, force: true });
});

describe("TorchServe's tokens", () => {
  it('are written for their owner alone, asked for, and renewed', async () => {
    expect(statSync(inFolder('key_file.json')).mode & 0o777).toBe(0o600);
    const denied = {
      code: 400,
      type: 'InvalidKeyException',
      message: 'Token Authorization failed. Token either incorrect, expired, or not provided correctly',
    };
    expect((await curl(`${server.url}/ping`)).json).toEqual(denied);
    const wrong = await curl(`${server.url}/predictions/noop`, '-T', 'prompt.txt', ...bearer('management'));
    expect([wrong.status, wrong.json.type]).toEqual([400, 'InvalidKeyException']);
    const ping = await curl(`${server.url}/ping`, ...bearer('inference'));
    expect([ping.status, ping.json]).toEqual([200, { status: 'Healthy' }]);
    expect((await curl('-X', 'OPTIONS', `${server.url}/`)).json.openapi).toBe('3.0.1');
    expect((await curl(`${server.url}/api-description`)).status).toBe(200);
    expect((await curl(`${metrics}/metrics`)).status).toBe(200);

    const before = keys().inference!.key;
    const bad = await curl(`${management}/token?type=inference`, ...bearer('inference'));
    expect([bad.status, bad.json.message.slice(0, 28)]).toEqual([400, 'Token Authentication failed.']);
    expect((await curl(`${management}/token?type=inference`, ...bearer('API'))).status).toBe(200);
    expect(keys().inference!.key).not.toBe(before);
    const old = await curl(`${server.url}/ping`, '-H', `Authorization: Bearer ${before}`);
    expect(old.status).toBe(400);
  });
});

describe("TorchServe's inference API", () => {
  const predict = (model: string, ...args: string[]) =>
    curl(`${server.url}/predictions/${model}`, ...bearer('inference'), ...args);

  it('gives a handler a file, a form, JSON, and what is behind the version', async () => {
    const file = await predict('noop', '-T', 'prompt.txt');
    expect([file.status, file.headers.includes('x-explain: false')]).toEqual([200, true]);
    expect(file.json.version).toBe('1.0');
    expect((await predict('noop', '-F', 'data=@prompt.txt')).json.got).toBe('Once upon a time');
    const json = await predict('noop/1.0', '-H', 'Content-Type: application/json', '-d', '{"x": [1, 2]}');
    expect(json.json).toMatchObject({ version: '1.0', got: { x: [1, 2] } });
    const below = await predict('noop/1.0/a/b', '-H', 'Content-Type: text/plain', '-d', 'hi');
    expect(below.json).toMatchObject({ got: 'hi', path: 'a/b' });
    const kserve = await curl(
      ...[`${server.url}/v1/models/noop:predict`, ...bearer('inference')],
      ...['-d', '{"instances": [{"data": "a"}, {"data": {"b": 1}}]}'],
    );
    expect(kserve.json.predictions.map((one: { got: unknown }) => one.got)).toEqual(['a', { b: 1 }]);
  });

  it("tells what went wrong in TorchServe's words", async () => {
    const text = (body: string) => ['-H', 'Content-Type: text/plain', '-d', body];
    const errors = {
      refuse: [513, 'Some Prediction Error'],
      throw: [503, 'Prediction failed'],
      wrong: [503, 'Invalid model predict output'],
      die: [500, 'Worker died.'],
    };
    for (const [body, [code, message]] of Object.entries(errors)) {
      const { json, status } = await predict('noop', ...text(body));
      expect([status, json]).toEqual([code, { code, type: 'InternalServerException', message }]);
    }
    const absent = await predict('none', '-T', 'prompt.txt');
    expect([absent.status, absent.json]).toEqual([
      404,
      { code: 404, type: 'ModelNotFoundException', message: 'Model not found: none' },
    ]);
    expect((await predict('noop/9', '-T', 'prompt.txt')).json).toEqual({
      ...{ code: 404, type: 'ModelVersionNotFoundException' },
      message: 'Model version: 9 does not exist for model: noop',
    });
    const explained = await curl(`${server.url}/explanations/none`, ...bearer('inference'), '-d', '{}');
    expect([explained.status, explained.json.type]).toEqual([404, 'ModelNotFoundException']);
  });

  it('streams what a handler streams', async () => {
    const { body, headers } = await predict('noop', '-N', '-H', 'Content-Type: text/plain', '-d', 'stream');
    expect(body).toBe('one two three');
    expect(headers).toContain('transfer-encoding: chunked');
    expect(headers).toContain('ts_stream_next: true');
  });

  it('gives a language model text for text, and an object for an object', async () => {
    const asked = { parameters: { max_new_tokens: 12, do_sample: false }, inputs: 'Once upon a time' };
    const whole = await predict('story', '-H', 'Content-Type: application/json', '-d', JSON.stringify(asked));
    const text = await predict('story', '-T', 'prompt.txt');
    expect([text.status, /content-type: text\/plain/.test(text.headers)]).toEqual([200, true]);
    expect(text.body).toMatch(/\w{2}/);
    const streamed = await predict('story', '-d', JSON.stringify({ ...asked, stream: true }));
    const lines = streamed.body
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.at(-1).generated_text).toBe(whole.json.generated_text);
    const openAi = await predict(
      'story/1.0/v1/completions',
      '-d',
      '{"prompt": "Once upon a time", "max_tokens": 12, "temperature": 0}',
    );
    expect(openAi.json.choices[0].text).toBe(whole.json.generated_text);
    const instances = await curl(
      ...[`${server.url}/v1/models/story:predict`, ...bearer('inference')],
      ...['-d', JSON.stringify({ instances: [asked] })],
    );
    expect(instances.json).toEqual({ predictions: [whole.json.generated_text] });
  });
});

describe("TorchServe's management API", () => {
  const manage = (target: string, ...args: string[]) =>
    curl(`${management}${target}`, ...bearer('management'), ...args);

  it('registers, scales, describes, makes default and unregisters', async () => {
    const registered = await manage('/models?url=noop-2.0.mar', '-X', 'POST');
    expect([registered.status, registered.json.status]).toEqual([
      200,
      'Model "noop" Version: 2.0 registered with 0 initial workers. Use scale workers API to add workers for the model.',
    ]);
    const refused = await curl(
      `${server.url}/predictions/noop/2.0`,
      ...bearer('inference'),
      '-T',
      'prompt.txt',
    );
    expect([refused.status, refused.json.type]).toEqual([503, 'ServiceUnavailableException']);
    expect(refused.json.message).toMatch(
      /^Model "noop" Version 2\.0" has no worker to serve inference request\./,
    );
    const scaled = await manage('/models/noop/2.0?min_worker=2&synchronous=true', '-X', 'PUT');
    expect([scaled.status, scaled.json]).toEqual([
      200,
      { status: 'Workers scaled to 2 for model: noop, version: 2.0' },
    ]);
    const [described] = (await manage('/models/noop/2.0')).json;
    expect(described).toMatchObject({
      ...{ modelName: 'noop', modelVersion: '2.0', modelUrl: 'noop-2.0.mar', runtime: 'node' },
      ...{ minWorkers: 2, maxWorkers: 2, batchSize: 1, maxBatchDelay: 100, responseTimeout: 20 },
      ...{ loadedAtStartup: false, jobQueueStatus: { remainingCapacity: 100, pendingRequests: 0 } },
    });
    expect(described.workers).toHaveLength(2);
    expect(described.workers[0]).toMatchObject({ id: '9000', status: 'READY', gpu: false, gpuUsage: 'N/A' });
    expect(described.workers[0].memoryUsage).toBeGreaterThan(1_000_000);
    expect((await manage('/models/noop/all')).json).toHaveLength(2);

    expect((await manage('/models/noop/2.0/set-default', '-X', 'PUT')).json).toEqual({
      status: 'Default version successfully updated for model "noop" to "2.0"',
    });
    const unversioned = await curl(
      `${server.url}/predictions/noop`,
      ...bearer('inference'),
      '-T',
      'prompt.txt',
    );
    expect(unversioned.json.version).toBe('2.0');
    const kept = await manage('/models/noop/2.0', '-X', 'DELETE');
    expect([kept.status, kept.json.message]).toEqual([403, 'Cannot remove default version for model noop']);
    expect((await manage('/models/noop/9.9/set-default', '-X', 'PUT')).json.message).toBe(
      'Model version 9.9 does not exist for model noop',
    );
    await manage('/models/noop/1.0/set-default', '-X', 'PUT');
    expect((await manage('/models/noop/2.0', '-X', 'DELETE')).json).toEqual({
      status: 'Model "noop" unregistered',
    });
  }, 60_000);

  it('asks a handler what it says of its model, and why it answers as it does', async () => {
    const asked = '/models/mood?customized=true';
    await manage('/models?url=mood.mar', '-X', 'POST');
    const idle = await manage(asked);
    expect([idle.status, idle.json.type]).toEqual([503, 'ServiceUnavailableException']);
    await manage('/models/mood?min_worker=1&synchronous=true', '-X', 'PUT');
    const [described] = (await manage(asked)).json;
    expect(described).toMatchObject({ modelName: 'mood', minWorkers: 1 });
    expect(JSON.parse(described.customizedMetadata)).toEqual({ trainedOn: 'two words', version: '1.0' });
    expect((await manage('/models/mood')).json[0].customizedMetadata).toBeUndefined();
    // A model that is no handler says nothing.
    expect((await manage('/models/story?customized=true')).json[0].customizedMetadata).toBeUndefined();

    const kserve = (target: string, body: object) =>
      curl(
        `${server.url}${target}`,
        ...bearer('inference'),
        '-H',
        'content-type: application/json',
        '-d',
        JSON.stringify(body),
      );
    const instances = [{ data: 'a good day' }, { data: 'bad' }];
    expect((await kserve('/v1/models/mood:predict', { instances })).json).toEqual({
      predictions: [{ joy: 3 }, { joy: -2 }],
    });
    const why = (words: string[], importances: number[], score: number) =>
      expect.objectContaining({ words, target: 'joy', importances, score, base: 1 });
    const expected = [why(['a', 'good', 'day'], [0, 2, 0], 3), why(['bad'], [-3], -2)];
    const parameters = { method: 'occlusion' };
    const explained = await kserve('/v1/models/mood:explain', { instances, parameters });
    expect([explained.status, explained.json]).toEqual([200, { explanations: expected }]);
    const inputs = [{ name: 'text', shape: [2], datatype: 'BYTES', data: ['a good day', 'bad'] }];
    const { outputs } = (await kserve('/v2/models/mood/explain', { id: 'why', inputs, parameters })).json;
    expect(outputs).toMatchObject([{ name: 'explanation', datatype: 'BYTES', shape: [2] }]);
    expect(outputs[0].data.map((one: string) => JSON.parse(one))).toEqual(expected);
    const bad = await kserve('/v1/models/mood:explain', { instances, parameters: { method: 'magic' } });
    expect([bad.status, bad.json.message]).toEqual([
      400,
      expect.stringMatching(/method must be shapley, occl/),
    ]);
    await manage('/models/mood', '-X', 'DELETE');
  }, 60_000);

  it('lists by pages, scales without waiting, and refuses what cannot be', async () => {
    expect((await manage('/models?limit=1')).json).toEqual({
      nextPageToken: '1',
      models: [{ modelName: 'noop', modelUrl: 'noop.mar' }],
    });
    expect((await manage('/models?limit=1&next_page_token=1')).json).toEqual({
      models: [{ modelName: 'story', modelUrl: 'embedded' }],
    });
    const later = await manage('/models/noop?min_worker=1', '-X', 'PUT');
    expect([later.status, later.json]).toEqual([202, { status: 'Processing worker updates...' }]);
    const errors: [string, string, number, string][] = [
      ['POST', '/models', 400, 'Parameter url is required.'],
      ['POST', '/models?url=noop.mar', 409, 'Model version 1.0 is already registered for model noop'],
      ['POST', '/models?url=../x.mar', 404, 'Relative path is not allowed in url: ../x.mar'],
      ['POST', '/models?url=ftp://x/y.mar', 404, 'Given URL ftp://x/y.mar does not match any allowed URL(s)'],
      ['POST', '/models?url=absent.mar', 404, 'Model not found at: absent.mar'],
      ['POST', '/models?url=noop.mar&runtime=java', 400, 'Invalid RuntimeType value: java'],
      ['PUT', '/models/noop?min_worker=3&max_worker=1', 400, 'max_worker cannot be less than min_worker.'],
      ['PUT', '/models/none?min_worker=1', 404, 'Model not found: none'],
      ['DELETE', '/models/none', 404, 'Model not found: none'],
      ['PATCH', '/models/noop', 405, 'Requested method is not allowed, please refer to API document.'],
      ['GET', '/nowhere/at/all', 404, 'Requested resource is not found, please refer to API document.'],
    ];
    for (const [method, target, status, message] of errors) {
      const told = await manage(target, '-X', method);
      expect([method, target, told.status, told.json.message]).toEqual([method, target, status, message]);
    }
    const asynchronous = await manage(
      '/models?url=noop-2.0.mar&initial_workers=1&synchronous=false',
      '-X',
      'POST',
    );
    expect([asynchronous.status, asynchronous.json]).toEqual([
      202,
      { status: 'Processing worker updates...' },
    ]);
    expect((await manage('/v1/models/story')).json).toEqual({ name: 'story', ready: true });
    expect((await curl(`${server.url}/models`, ...bearer('management'))).status).toBe(404);
  });
});

describe("TorchServe's workflows", () => {
  const manage = (target: string, ...args: string[]) =>
    curl(`${management}${target}`, ...bearer('management'), ...args);
  const ask = (name: string) =>
    curl(`${server.url}/wfpredict/${name}`, ...bearer('inference'), '-T', 'prompt.txt');

  it('of the workflow store are served from the start, registered, described and gone', async () => {
    expect((await ask('flow')).body).toBe('pre Once upon a time post');
    const registered = await manage('/workflows?url=other.war&workflow_name=second', '-X', 'POST');
    expect([registered.status, registered.json]).toEqual([
      200,
      { status: 'Workflow second has been registered and scaled successfully.' },
    ]);
    expect((await ask('second')).body).toBe('pre Once upon a time post');
    const { workflows } = (await manage('/workflows')).json;
    expect(workflows.map((one: { workflowName: string }) => one.workflowName)).toEqual(['flow', 'second']);
    expect((await manage('/workflows/second')).json).toEqual([
      {
        workflowName: 'second',
        workflowUrl: expect.stringMatching(/other\.war$/),
        workflowDag: { pre: [], post: ['pre'] },
      },
    ]);
    // Its models are its own: no list has them, and no snapshot.
    const { models } = (await manage('/models')).json;
    expect(models.map((one: { modelName: string }) => one.modelName)).toEqual(['noop', 'story']);
    expect((await manage('/workflows/second', '-X', 'DELETE')).json).toEqual({
      status: 'Workflow "second" unregistered',
    });
    const gone = {
      code: 404,
      type: 'ModelNotFoundException',
      message: 'Model or workflow not found: second',
    };
    expect((await ask('second')).json).toEqual(gone);
    for (const [target, status, message] of [
      ['/workflows?url=absent.war', 404, 'Workflow not found at: absent.war'],
      ['/workflows?url=../x.war', 404, 'Relative path is not allowed in url: ../x.war'],
      ['/workflows', 400, 'Parameter url is required.'],
      ['/workflows?url=flow.war', 409, 'Workflow flow is already registered.'],
    ] as const) {
      const told = await manage(target, '-X', 'POST');
      expect([target, told.status, told.json.message]).toEqual([target, status, message]);
    }
  });
});

describe("TorchServe's gRPC", () => {
  type Stub = Client & Record<string, (...args: unknown[]) => unknown>;
  const stubs: Stub[] = [];
  afterAll(() => {
    for (const stub of stubs) stub.close();
  });
  const stubOf = async (key: string, file: string, name: string): Promise<Stub> => {
    const { address } = await server.line(({ msg }) => msg.startsWith(`${key} listens`));
    const definition = loadPackageDefinition(loadSync(protoFile(file), PROTO_OPTIONS));
    const Service = name
      .split('.')
      .reduce<unknown>((at, part) => (at as Record<string, unknown>)[part], definition);
    const stub = new (Service as new (...args: unknown[]) => Stub)(address, credentials.createInsecure());
    stubs.push(stub);
    return stub;
  };
  const withToken = (kind: string): Metadata => {
    const metadata = new Metadata();
    metadata.set('authorization', `Bearer ${keys()[kind]!.key}`);
    return metadata;
  };
  const call = <T>(stub: Stub, method: string, message: object, metadata: Metadata): Promise<T> =>
    new Promise((resolve, reject) => {
      stub[method]!(message, metadata, (error: ServiceError | null, answer: T) =>
        error ? reject(error) : resolve(answer),
      );
    });
  const inference = () =>
    stubOf(
      'grpc_inference_address',
      'torchserve_inference.proto',
      'org.pytorch.serve.grpc.inference.InferenceAPIsService',
    );

  it('predicts, whole and in pieces, for a handler and a language model', async () => {
    const stub = await inference();
    const token = withToken('inference');
    expect(await call(stub, 'Ping', {}, token)).toEqual({ health: '{\n  "status": "Healthy"\n}\n' });
    const input = { data: Buffer.from('hello') };
    const { prediction } = await call<{ prediction: Buffer }>(
      ...([stub, 'Predictions', { model_name: 'noop', input }, token] as const),
    );
    expect(JSON.parse(prediction.toString())).toMatchObject({ version: '1.0', got: { type: 'Buffer' } });
    const pieces = async (model: string, text: string): Promise<string[]> => {
      const message = { model_name: model, input: { data: Buffer.from(text) } };
      const stream = stub.StreamPredictions!(message, token) as AsyncIterable<{ prediction: Buffer }>;
      const all: string[] = [];
      for await (const piece of stream) all.push(piece.prediction.toString());
      return all;
    };
    expect(await pieces('noop', 'stream')).toEqual(['one ', 'two ', 'three']);
    const asked = { inputs: 'Once upon a time', parameters: { max_new_tokens: 6, do_sample: false } };
    const tokens = await pieces('story', JSON.stringify(asked));
    const whole = await call<{ prediction: Buffer }>(
      ...([
        stub,
        'Predictions',
        { model_name: 'story', input: { data: Buffer.from(JSON.stringify(asked)) } },
        token,
      ] as const),
    );
    expect(tokens.length).toBeGreaterThan(3);
    expect(JSON.parse(whole.prediction.toString())).toEqual({ generated_text: tokens.join('') });
    // The same text as the other dialects give, which e2e/dialects compares.
    const body = { model: 'story', prompt: 'Once upon a time', max_tokens: 6, temperature: 0 };
    const { json } = await curl(
      ...[`${server.url}/v1/completions`, '-H', 'content-type: application/json'],
      ...[...bearer('inference'), '-d', JSON.stringify(body)],
    );
    expect(json.choices[0].text).toBe(tokens.join(''));
  });

  it("refuses in TorchServe's statuses", async () => {
    const stub = await inference();
    const asked = (model_name: string, text: string) => ({ model_name, input: { data: Buffer.from(text) } });
    const refusal = (message: object, token: Metadata) =>
      call(stub, 'Predictions', message, token).then(
        () => null,
        ({ code, details }: ServiceError) => [code, details],
      );
    expect(await refusal(asked('noop', 'x'), withToken('management'))).toEqual([
      status.PERMISSION_DENIED,
      'Token Authorization failed. Token either incorrect, expired, or not provided correctly',
    ]);
    const token = withToken('inference');
    expect(await refusal(asked('none', 'x'), token)).toEqual([status.INTERNAL, 'Model not found: none']);
    expect(await refusal(asked('noop', 'throw'), token)).toEqual([status.UNAVAILABLE, 'Prediction failed']);
    expect(await refusal(asked('noop', 'refuse'), token)).toEqual([status.INTERNAL, 'Some Prediction Error']);
  });

  it('manages models, and serves the Open Inference Protocol in its package', async () => {
    const stub = await stubOf(
      ...(['grpc_management_address', 'torchserve_management.proto'] as const),
      'org.pytorch.serve.grpc.management.ManagementAPIsService',
    );
    const token = withToken('management');
    const manage = async (method: string, message: object) =>
      JSON.parse((await call<{ msg: string }>(stub, method, message, token)).msg);
    expect(await manage('ListModels', {})).toMatchObject({
      models: [{ modelName: 'noop', modelUrl: 'noop.mar' }, { modelName: 'story' }],
    });
    const registered = await manage('RegisterModel', { url: 'noop.mar', model_name: 'third' });
    expect(registered.status).toMatch(/^Model "third" Version: 1\.0 registered with 0 initial workers\./);
    const scaled = await manage('ScaleWorker', { model_name: 'third', min_worker: 1, synchronous: true });
    expect(scaled).toEqual({ status: 'Workers scaled to 1 for model: third' });
    expect(await manage('DescribeModel', { model_name: 'third' })).toMatchObject([
      { minWorkers: 1, batchSize: 1 },
    ]);
    expect(await manage('SetDefault', { model_name: 'third', model_version: '1.0' })).toEqual({
      status: 'Default version successfully updated for model "third" to "1.0"',
    });
    expect(await manage('UnregisterModel', { model_name: 'third' })).toEqual({
      status: 'Model "third" unregistered',
    });
    await expect(call(stub, 'DescribeModel', { model_name: 'third' }, token)).rejects.toMatchObject({
      ...{ code: status.NOT_FOUND, details: 'Model not found: third' },
    });
    await expect(call(stub, 'RegisterModel', { url: 'noop.mar' }, token)).rejects.toMatchObject({
      code: status.ABORTED,
    });
    await expect(call(stub, 'ListModels', {}, withToken('inference'))).rejects.toMatchObject({
      code: status.PERMISSION_DENIED,
    });
    const audited = server.lines.filter(
      ({ method, msg }) => msg === 'audit' && /^[A-Z][a-z]+[A-Z]/.test(String(method)),
    );
    // The refusal's own line may come a moment later.
    expect(audited.slice(0, 4).map(({ code, method }) => [method, code])).toEqual(
      ['RegisterModel', 'ScaleWorker', 'SetDefault', 'UnregisterModel'].map((method) => [method, 'OK']),
    );
  });
});

describe("TorchServe's metrics and logs", () => {
  it("have TorchServe's names, those that metrics.yaml has", async () => {
    const { body } = await curl(`${metrics}/metrics`);
    expect(body).toMatch(
      /^ts_inference_requests_total\{model_name="noop",model_version="default",hostname="[^"]+"\} \d/m,
    );
    expect(body).toMatch(/^Requests2XX\{Level="Host",Hostname="[^"]+"\} \d/m);
    expect(body).toMatch(/^MemoryUtilization\{Level="Host",Hostname="[^"]+"\} [\d.]+$/m);
    expect(body).toMatch(/^Asked\{Kind="any",ModelName="noop",Level="Model"\} \d/m);
    expect(body).toMatch(/^HandlerTime\{ModelName="noop",Level="Model"\} [\d.]+$/m);
    expect(body).not.toMatch(/^(?:Unnamed|CPUUtilization|ts_queue_latency_microseconds)\b/m);
    const one = await curl(`${metrics}/metrics?name[]=Requests2XX`, '-g');
    expect(one.body).not.toContain('Asked');
  });

  it("are written as TorchServe's layouts have them", async () => {
    const log = (name: string) => readFileSync(path.join(work, 'logs', name), 'utf8');
    const time = String.raw`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3}`;
    const asked = String.raw` - /127\.0\.0\.1:\d+ "PUT /predictions/noop HTTP/1\.1" 200 \d+$`;
    expect(log('access_log.log')).toMatch(new RegExp(time + asked, 'm'));
    const ready = String.raw` \[INFO \] main org\.pytorch\.serve\.ModelServer - model noop:1\.0 is ready`;
    expect(log('ts_log.log')).toMatch(new RegExp(time + ready, 'm'));
  });
});

describe("TorchServe's command", () => {
  it('says that a server runs already, and ends it', async () => {
    const shardserve = (...args: string[]) =>
      run(process.execPath, [path.join(repositoryRoot, 'server/shardserve.mjs'), 'torchserve', ...args], {
        ...{ cwd: work, env: { ...process.env, TMPDIR: work } },
      });
    await expect(shardserve('--start', '--model-store', store)).rejects.toMatchObject({
      stdout: 'TorchServe is already running, please use torchserve --stop to stop TorchServe.\n',
    });
    expect((await shardserve('--stop', '--foreground')).stdout).toBe('TorchServe has stopped.\n');
    expect(await server.exited).toBe(0);
    expect(existsSync(inFolder('key_file.json'))).toBe(false);
    await expect(shardserve('--stop')).rejects.toMatchObject({
      stdout: 'TorchServe is not currently running.\n',
    });
  });

  it('goes on with what was served, by the newest snapshot', async () => {
    const snapshots = readdirSync(path.join(work, 'logs/config')).sort();
    expect(snapshots[0]).toMatch(/^\d{17}-startup\.cfg$/);
    expect(snapshots.at(-1)).toMatch(/^\d{17}-shutdown\.cfg$/);
    rmSync(inFolder('config.properties'));
    const flags = ['torchserve', '--start', '--foreground'];
    server = new ServerProcess({ ...ENVIRONMENT, TMPDIR: work }, [], flags, work);
    await server.ready();
    const line = await server.line(({ managementUrl }) => managementUrl !== undefined);
    const { json } = await curl(`${String(line.managementUrl)}/models/noop/all`, ...bearer('management'));
    expect(json.map((one: { modelVersion: string }) => one.modelVersion)).toEqual(['1.0', '2.0']);
    const asked = await curl(`${server.url}/predictions/story`, ...bearer('inference'), '-T', 'prompt.txt');
    expect(asked.status).toBe(200);
  }, 60_000);
});
