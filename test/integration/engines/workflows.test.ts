/** Workflows over HTTP: TorchServe's archive, DJLServing's file and Triton's ensemble, registered, asked, described and gone. */

import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { OnnxWriter } from '../../../partitioner/graph/onnx-writer.js';
import { loadConfig } from '../../../server/config/load-config.js';
import { HandlerEngine } from '../../../server/engines/handlers/handler-engine.js';
import { OnnxEngine } from '../../../server/engines/onnx/onnx-engine.js';
import { fetchModel, releaseModel } from '../../../server/model-store/fetch-model.js';
import { parseModelUrl } from '../../../server/model-store/model-source.js';
import { RegistrationFolders } from '../../../server/model-store/registration-folders.js';
import type { RegistrationParts } from '../../../server/work-load-manager/model-origin.js';
import { WorkLoadManager } from '../../../server/work-load-manager/work-load-manager.js';
import { workflowParts } from '../../../server/workflow-parts.js';
import { WorkflowRegistry } from '../../../server/workflows/workflow-registry.js';
import { LogRecorder } from '../../fixtures/log-recorder.js';
import { startServer, type TestServer } from '../../support/http-fixtures.js';
import { zipBytes } from '../../support/model-store-bytes.js';

/** y [n, 2] = factor · x [n, 2] */
function scaled(factor: number): Uint8Array {
  const graph = new OnnxWriter('scaled');
  const x = graph.input('x', 'float32', ['n', 2]);
  graph.node('Mul', [x, graph.floats('factor', [factor], [1])], ['y']);
  graph.output('y', 'float32', ['n', 2]);
  return graph.encode('test');
}

/** A model with batches of its own: it tells how many came together. */
const COUNTING = `
export class Counting {
  async handle(data) { return data.map(({ body }) => ({ given: body, together: data.length })); }
}`;

const FUNCTIONS = `
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
export async function pre(data, context) {
  if (data === null) return null;
  return data.map(({ body }) => ({ inputs: { x: [[Number(body), 1]] } }));
}
export async function join(data, context) {
  if (data === null) return null;
  return data.map(({ double, triple }) => ({ double: double.y, triple: triple.y }));
}
/** Dies the first time. */
export async function flaky(data, context) {
  if (data === null) return null;
  const mark = path.join(context.systemProperties.model_dir, 'died');
  if (!existsSync(mark)) { writeFileSync(mark, ''); process.exit(1); }
  return data.map(({ body }) => 'alive: ' + body);
}
export async function slow(data, context) { return data === null ? null : new Promise(() => {}); }
`;
const DJL_FUNCTIONS = `
import { existsSync, watch } from 'node:fs';
import path from 'node:path';
import { type Input, Output } from 'shardserve/handler';
export function shout(inputs: Input) {
  return inputs.isEmpty() ? null : new Output().add({ text: inputs.getAsString().toUpperCase() });
}
export function both(inputs: Input) {
  return inputs.isEmpty() ? null : new Output().add({ keys: inputs.getKeys(), mid: inputs.getAsJson('mid'), in: inputs.getAsString('in') });
}
/** The second piece waits until somebody has seen the first. */
export function tell(inputs: Input) {
  if (inputs.isEmpty()) return null;
  const given = inputs.getAsString();
  return new Output().addStreamContent((async function* () {
    yield given + ' ';
    const folder = inputs.getProperty('x-folder', '');
    if (given !== 'all') {
      await new Promise((resolve) => {
        watch(folder, resolve);
        if (existsSync(path.join(folder, 'seen'))) resolve(null);
      });
    }
    if (given === 'break') throw new Error('went off');
    yield 'two';
  })());
}`;

describe('workflows', () => {
  const root = mkdtempSync(path.join(tmpdir(), 'shardserve-workflows-'));
  const store = path.join(root, 'store');
  let manager: WorkLoadManager;
  let http: TestServer;
  let workflows: WorkflowRegistry;

  const write = (name: string, files: Readonly<Record<string, string | Uint8Array>>): string => {
    for (const [file, content] of Object.entries(files)) {
      const at = path.join(store, name, file);
      mkdirSync(path.dirname(at), { recursive: true });
      writeFileSync(at, content);
    }
    return path.join(store, name);
  };
  const war = (name: string, spec: object, functions = FUNCTIONS): string => {
    const manifest = { workflow: { workflowName: name, specFile: 'spec.yaml', handler: 'handler.ts' } };
    const file = path.join(store, `${name}.war`);
    const entries = {
      'WAR-INF/MANIFEST.json': JSON.stringify(manifest),
      'spec.yaml': JSON.stringify(spec),
      'handler.ts': functions,
    };
    writeFileSync(
      file,
      zipBytes(Object.entries(entries).map(([at, text]) => ({ name: at, content: Buffer.from(text) }))),
    );
    return file;
  };

  beforeAll(async () => {
    for (const [name, factor] of [
      ['double', 2],
      ['triple', 3],
    ] as const)
      write(name, { 'model.onnx': scaled(factor) });
    write('counting', { 'model.mjs': COUNTING });
    const config = loadConfig({
      argv: ['-s', store],
      env: {
        ...{ SERVING_DOWNLOAD_DIR: path.join(root, 'downloads'), SERVING_LOAD_MODELS: 'NONE' },
        ...{ OPTION_THREADS_PER_RANK: '1', SERVING_ALLOWED_HOSTS: '127.0.0.1' },
      },
      cwd: root,
      installation: root,
    });
    const engines = { onnx: new OnnxEngine(), handler: new HandlerEngine() };
    const registration: RegistrationParts = {
      fetch: (url, { byRequest, onProgress, signal }) =>
        fetchModel({
          ...{ url, signal, onProgress, downloadFolder: config.store.downloadFolder },
          within: byRequest ? new RegistrationFolders([store]) : null,
          policy: { ...config.store, modelStore: store },
        }),
      release: releaseModel,
      nameOf: (url) => parseModelUrl(url).suggestedName,
      configure: (...given) => config.configure(...given).config,
    };
    manager = new WorkLoadManager({
      engineOf: ({ engine }) => engines[engine as 'onnx' | 'handler'],
      logger: new LogRecorder().logger,
      registration,
    });
    workflows = new WorkflowRegistry(workflowParts(registration, manager));
    http = await startServer({}, null, { service: manager, management: manager, workflows });
  });
  afterAll(async () => {
    await manager.close();
    await http.server.close();
    rmSync(root, { recursive: true, force: true });
  });

  const manage = async (method: string, target: string) => {
    const response = await fetch(`${http.url}${target}`, { method });
    return { status: response.status, body: (await response.json()) as never };
  };
  const register = (url: string) => manage('POST', `/workflows?url=${encodeURIComponent(url)}`);
  const ask = async (name: string, body: string, type = 'text/plain') => {
    const response = await fetch(`${http.url}/wfpredict/${name}`, {
      ...{ method: 'POST', body, headers: { 'content-type': type } },
    });
    const text = await response.text();
    return { status: response.status, text, type: response.headers.get('content-type') };
  };

  it('of TorchServe run functions and models, branches beside each other, and are described and unregistered', async () => {
    const spec = {
      models: {
        'max-batch-delay': 1,
        double: { url: 'double' },
        triple: { url: 'triple', 'max-workers': 2 },
      },
      dag: { pre: ['double', 'triple'], double: ['join'], triple: ['join'] },
    };
    expect((await register(war('math', spec))).body).toEqual({ status: 'Workflow "math" registered.' });
    const answers = await Promise.all(Array.from({ length: 12 }, (_, index) => ask('math', String(index))));
    answers.forEach(({ status, text }, index) => {
      expect([status, JSON.parse(text)]).toEqual([
        200,
        { double: [[2 * index, 2]], triple: [[3 * index, 3]] },
      ]);
    });
    const [described] = (await manage('GET', '/workflows/math')).body as {
      workflowName: string;
      models: { modelName: string; status: string }[];
      nodes: object[];
    }[];
    expect(described!.models.map(({ modelName, status }) => [modelName, status])).toEqual([
      ['math__pre', 'Healthy'],
      ['math__double', 'Healthy'],
      ['math__triple', 'Healthy'],
      ['math__join', 'Healthy'],
    ]);
    expect(described!.nodes[3]).toEqual({
      ...{
        name: 'join',
        model: 'math__join',
        after: ['double', 'triple'],
        timeoutMillis: 10_000,
        attempts: 2,
      },
    });
    const listed = (await manage('GET', '/workflows')).body as { workflows: { workflowName: string }[] };
    expect(listed.workflows.map(({ workflowName }) => workflowName)).toContain('math');
    expect((await register(path.join(store, 'math.war'))).status).toBe(409);
    expect((await manage('DELETE', '/workflows/math')).body).toEqual({
      status: 'Model or workflow "math" unregistered',
    });
    expect([(await ask('math', '1')).status, manager.models()]).toEqual([404, []]);
  });

  it('batch at each node', async () => {
    const spec = {
      models: { 'batch-size': 8, 'max-batch-delay': 50, counting: { url: 'counting' } },
      dag: { pre: ['counting'] },
    };
    expect((await register(war('batched', spec))).status).toBe(200);
    const answers = await Promise.all(
      Array.from({ length: 16 }, (_, index) => ask('batched', String(index))),
    );
    const told = answers.map(
      ({ text }) => JSON.parse(text) as { given: { inputs: { x: number[][] } }; together: number },
    );
    told.forEach(({ given }, index) => {
      expect(given.inputs.x[0]![0]).toBe(index);
    });
    expect(Math.max(...told.map(({ together }) => together))).toBeGreaterThan(1);
    await manage('DELETE', '/workflows/batched');
  });

  it('try a node again whose process died, and give up one that takes too long', async () => {
    const models = { 'retry-attempts': 1, 'timeout-ms': 3000, counting: { url: 'counting' } };
    expect((await register(war('again', { models, dag: { flaky: ['counting'] } }))).status).toBe(200);
    expect(JSON.parse((await ask('again', 'x')).text)).toMatchObject({ given: 'alive: x' });
    const short = { ...models, 'retry-attempts': 0, 'timeout-ms': 300 };
    expect((await register(war('late', { models: short, dag: { slow: ['counting'] } }))).status).toBe(200);
    const late = await ask('late', 'x');
    expect([late.status, late.text]).toEqual([400, expect.stringMatching(/Node slow: .* after 300 ms/)]);
    for (const name of ['again', 'late']) await manage('DELETE', `/workflows/${name}`);
  });

  it('of DJLServing call functions and models by name, and are asked at /predictions too', async () => {
    const folder = write('calls', {
      'functions.ts': DJL_FUNCTIONS,
      'workflow.json': JSON.stringify({
        ...{ name: 'calls', version: '1', models: { count: '{model_dir}/../counting' } },
        functions: { shout: 'functions.ts:shout', both: 'functions.ts:both' },
        workflow: { mid: ['count', ['shout', 'in']], out: ['both', 'mid', 'in'] },
      }),
    });
    expect((await register(`file://${folder}/workflow.json`)).body).toEqual({
      status: 'Workflow "calls" registered.',
    });
    const wanted = { keys: ['mid', 'in'], mid: { given: { text: 'HI' }, together: 1 }, in: 'hi' };
    expect(JSON.parse((await ask('calls', 'hi')).text)).toEqual(wanted);
    const predicted = await fetch(`${http.url}/predictions/calls`, {
      ...{ method: 'POST', body: 'hi', headers: { 'content-type': 'text/plain' } },
    });
    expect(await predicted.json()).toEqual(wanted);
    await manage('DELETE', '/workflows/calls');
  });

  it('tell the answer of their last node as it is made, and end before they are unregistered', async () => {
    const folder = write('streaming', {
      'functions.ts': DJL_FUNCTIONS,
      'workflow.json': JSON.stringify({
        name: 'streaming',
        functions: { tell: 'functions.ts:tell' },
        workflow: { out: ['tell', 'in'] },
      }),
    });
    expect((await register(folder)).status).toBe(200);
    const stream = async (body: string) => {
      const headers = { 'content-type': 'text/plain', 'x-folder': folder };
      const response = await fetch(`${http.url}/wfpredict/streaming`, { method: 'POST', body, headers });
      return response.body!.pipeThrough(new TextDecoderStream()).getReader();
    };
    const seen = (): void => writeFileSync(path.join(folder, 'seen'), '');
    const reader = await stream('one');
    expect((await reader.read()).value).toBe('one ');
    const gone = manage('DELETE', '/workflows/streaming');
    seen();
    expect([(await reader.read()).value, (await reader.read()).done]).toEqual(['two', true]);
    expect((await gone).status).toBe(200);
    expect(manager.models()).toEqual([]);

    expect((await register(folder)).status).toBe(200);
    const cut = await stream('break');
    await expect(
      (async () => {
        while (!(await cut.read()).done);
      })(),
    ).rejects.toThrow();
    await manage('DELETE', '/workflows/streaming');
  });

  it('join the stream of a node in the middle', async () => {
    const folder = write('middle', {
      'functions.ts': DJL_FUNCTIONS,
      'workflow.json': JSON.stringify({
        name: 'middle',
        functions: { tell: 'functions.ts:tell', shout: 'functions.ts:shout' },
        workflow: { out: ['shout', ['tell', 'in']] },
      }),
    });
    expect((await register(folder)).status).toBe(200);
    expect(JSON.parse((await ask('middle', 'all')).text)).toEqual({ text: 'ALL TWO' });
    await manage('DELETE', '/workflows/middle');
  });

  it('of Triton join models by their tensors, those of the repository among them', async () => {
    const step = (model: string, from: string, to: string) =>
      `{ model_name: "${model}" model_version: -1 input_map { key: "x" value: "${from}" } output_map { key: "y" value: "${to}" } }`;
    const folder = write('sixfold', {
      'config.pbtxt': `name: "sixfold" platform: "ensemble" max_batch_size: 8
        input [ { name: "given" data_type: TYPE_FP32 dims: [ 2 ] } ]
        output [ { name: "six" data_type: TYPE_FP32 dims: [ 2 ] }, { name: "two" data_type: TYPE_FP32 dims: [ 2 ] } ]
        ensemble_scheduling { step [ ${step('double', 'given', 'two')}, ${step('triple', 'two', 'six')} ] }`,
      '1/.keep': '',
    });
    const registered = await manage('POST', `/models?url=${encodeURIComponent(path.join(store, 'double'))}`);
    expect(registered.status).toBe(200);
    expect((await register(folder)).body).toEqual({ status: 'Workflow "sixfold" registered.' });
    const { status, text } = await ask(
      'sixfold',
      JSON.stringify({ inputs: { given: [[1, -2]] } }),
      'application/json',
    );
    expect([status, JSON.parse(text)]).toEqual([200, { six: [[6, -12]], two: [[2, -4]] }]);
    const wrong = await ask('sixfold', JSON.stringify({ inputs: { given: [[1]] } }), 'application/json');
    expect(wrong.status).toBe(400);
    await manage('DELETE', '/workflows/sixfold');
    // What was there before stays.
    expect(manager.models().map(({ name }) => name)).toEqual(['double']);
    await manage('DELETE', '/models/double');
  });

  it.each([
    ['a model that is not there', { models: { a: { url: 'absent' } }, dag: { pre: ['a'] } }, 404, /absent/],
    [
      'a function that is not there',
      { models: {}, dag: { absent: ['pre'] } },
      400,
      /no function or class absent/,
    ],
    ['a circle', { models: {}, dag: { pre: ['join'], join: ['pre'] } }, 400, /cycle|no output/],
  ])('with %s are refused, and leave nothing', async (what, spec, status, words) => {
    const refused = await register(war(what.replace(/\W/g, '_'), spec));
    expect(refused.status).toBe(status);
    expect(JSON.stringify(refused.body)).toMatch(words);
    expect(manager.models()).toEqual([]);
  });

  it('that were fetched bring no code of their own, whatever they say, and no keys but a model file may', async () => {
    const spec = (options: object) =>
      JSON.stringify({
        models: { inner: { modelUrl: 'inner', options } },
        workflow: { out: ['inner', 'in'] },
      });
    const entries = {
      'workflow.json': spec({ trust_remote_code: true }),
      'inner/model.mjs': 'export const handle = () => null;',
    };
    const archive = zipBytes(
      Object.entries(entries).map(([name, text]) => ({ name, content: Buffer.from(text) })),
    );
    const elsewhere = createServer((_request, response) => response.end(archive)).listen(0, '127.0.0.1');
    await once(elsewhere, 'listening');
    const { port } = elsewhere.address() as AddressInfo;
    const fetched = await register(`http://127.0.0.1:${port}/evil.zip`);
    elsewhere.close();
    expect([fetched.status, JSON.stringify(fetched.body)]).toEqual([
      400,
      expect.stringContaining('only where the operator has set option.trust_remote_code=true'),
    ]);
    const folder = write('curious', {
      'workflow.json': spec({ chat_template: '/etc/passwd' }),
      'inner/model.onnx': scaled(1),
    });
    const curious = await register(folder);
    expect([curious.status, JSON.stringify(curious.body)]).toEqual([
      400,
      expect.stringContaining("names a file outside the model's folder"),
    ]);
    expect(manager.models()).toEqual([]);
  });

  it('take no JSON that is nested too deep', async () => {
    const ensemble = write('one', {
      'config.pbtxt': `name: "one" platform: "ensemble" max_batch_size: 8
        input [ { name: "given" data_type: TYPE_FP32 dims: [ 2 ] } ]
        output [ { name: "two" data_type: TYPE_FP32 dims: [ 2 ] } ]
        ensemble_scheduling { step [ { model_name: "double" model_version: -1 input_map { key: "x" value: "given" } output_map { key: "y" value: "two" } } ] }`,
      '1/.keep': '',
    });
    expect((await register(ensemble)).status).toBe(200);
    const deep = await ask('one', `{"given": ${'['.repeat(200)}${']'.repeat(200)}}`, 'application/json');
    expect([deep.status, deep.text]).toEqual([400, expect.stringContaining('The request body is nested')]);
    await manage('DELETE', '/workflows/one');
  });

  it('of another folder are not read for a request', async () => {
    const outside = path.join(root, 'outside');
    mkdirSync(outside);
    writeFileSync(
      path.join(outside, 'workflow.json'),
      readFileSync(path.join(store, 'calls', 'workflow.json')),
    );
    expect((await register(outside)).status).toBe(404);
  });

  it('leave nothing of their archives when the server ends', async () => {
    const spec = { models: {}, dag: { pre: ['join'] } };
    expect((await register(war('last', spec))).status).toBe(200);
    const unpacked = () => readdirSync(path.join(root, 'downloads')).filter((name) => /^last/.test(name));
    expect(unpacked()).toHaveLength(1);
    await workflows.close();
    expect([unpacked(), workflows.list()]).toEqual([[], []]);
  });
});
