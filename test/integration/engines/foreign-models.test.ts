/** Models as other servers keep them: Triton's repository and TorchServe's archives, loaded from a store and asked. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { archiveModel } from '../../../server/archive-main.js';
import { loadConfig } from '../../../server/config/load-config.js';
import { HandlerEngine } from '../../../server/engines/handlers/handler-engine.js';
import { OnnxEngine } from '../../../server/engines/onnx/onnx-engine.js';
import { fetchModel, releaseModel } from '../../../server/model-store/fetch-model.js';
import { parseModelUrl } from '../../../server/model-store/model-source.js';
import { WorkLoadManager } from '../../../server/work-load-manager/work-load-manager.js';
import { LogRecorder } from '../../fixtures/log-recorder.js';
import { startServer, type TestServer } from '../../support/http-fixtures.js';
import { repositoryRoot } from '../../support/repository-root.js';

const MODELS = path.join(repositoryRoot, 'test/golden/onnx-models');

const BERT = `
name: "bert-large"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [
  { name: "input_ids" data_type: TYPE_INT64 dims: [ -1 ] },
  { name: "attention_mask" data_type: TYPE_INT64 dims: [ -1 ] },
  { name: "token_type_ids" data_type: TYPE_INT64 dims: [ -1 ] }
]
output [ { name: "last_hidden_state" data_type: TYPE_FP32 dims: [ -1, 32 ] }, { name: "pooled" data_type: TYPE_FP32 dims: [ 32 ] } ]
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 2500 }
instance_group [ { count: 2 kind: KIND_CPU } ]
optimization { }
model_warmup [ {
  name: "two of seven tokens" batch_size: 2 count: 2
  inputs { key: "input_ids" value: { data_type: TYPE_INT64 dims: [ 7 ] zero_data: true } }
  inputs { key: "attention_mask" value: { data_type: TYPE_INT64 dims: [ 7 ] random_data: true } }
  inputs { key: "token_type_ids" value: { data_type: TYPE_INT64 dims: [ 7 ] zero_data: true } }
} ]
`;
const HANDLER = `
import { BaseHandler } from 'shardserve/handler';
import { Tensor } from 'onnxruntime-node';
export class Doubled extends BaseHandler {
  async preprocess(data: { body: number[] }[]) {
    return { x: new Tensor('float32', Float32Array.from(data.flatMap((one) => one.body)), [data.length, 8]) };
  }
  async postprocess({ y }: { y: { data: Float32Array } }) {
    const { scale } = this.context.modelYamlConfig.handler as { scale: number };
    return Array.from({ length: y.data.length / 3 }, (_, row) => Array.from(y.data.subarray(row * 3, row * 3 + 3), (one) => one * scale));
  }
}`;

describe('a store with the models of other servers', () => {
  const root = mkdtempSync(path.join(tmpdir(), 'shardserve-foreign-'));
  const store = path.join(root, 'store');
  const sources = path.join(root, 'sources');
  let manager: WorkLoadManager;
  let http: TestServer;

  const source = (name: string, text: string): string => {
    const file = path.join(sources, name);
    writeFileSync(file, text);
    return file;
  };
  const configOf = (env: Record<string, string> = {}) =>
    loadConfig({
      argv: ['-s', store],
      env: { SERVING_DOWNLOAD_DIR: path.join(root, 'downloads'), OPTION_THREADS_PER_RANK: '1', ...env },
      cwd: root,
      installation: root,
    });

  beforeAll(async () => {
    mkdirSync(path.join(store, 'bert-large', '1'), { recursive: true });
    mkdirSync(path.join(store, 'bert-large', '3'));
    mkdirSync(sources);
    for (const [version, model] of ['dynamic-axes', 'mlp', 'two-inputs'].entries()) {
      const at = path.join(store, 'changing', String(version + 1));
      mkdirSync(at, { recursive: true });
      cpSync(path.join(MODELS, `${model}.onnx`), path.join(at, 'model.onnx'));
    }
    writeFileSync(
      path.join(store, 'changing', 'config.pbtxt'),
      'platform: "onnxruntime_onnx" version_policy { latest { num_versions: 2 } }',
    );
    writeFileSync(path.join(store, 'bert-large', 'config.pbtxt'), BERT);
    writeFileSync(path.join(store, 'bert-large', '1', 'model.onnx'), 'an older one');
    cpSync(path.join(MODELS, 'bert.onnx'), path.join(store, 'bert-large', '3', 'model.onnx'));
    await archiveModel([
      ...['--model-name', 'doubled', '--version', '2.0', '--export-path', store],
      ...['--serialized-file', path.join(MODELS, 'mlp.onnx')],
      ...['--handler', `${source('doubler.ts', HANDLER)}:Doubled`],
      ...[
        '--config-file',
        source('model-config.yaml', 'batchSize: 4\nmaxBatchDelay: 5\nhandler: { scale: 2 }\n'),
      ],
    ]);
    await archiveModel([
      ...['--model-name', 'plain', '--export-path', store, '--archive-format', 'tgz'],
      ...['--serialized-file', path.join(MODELS, 'mlp.onnx')],
    ]);
    const config = configOf();
    const engines = { onnx: new OnnxEngine(), handler: new HandlerEngine() };
    manager = new WorkLoadManager({
      engineOf: ({ engine }) => engines[engine as 'onnx' | 'handler'],
      logger: new LogRecorder().logger,
      registration: {
        fetch: (url, { onProgress, signal }) =>
          fetchModel({
            ...{ url, signal, onProgress, within: null, downloadFolder: config.store.downloadFolder },
            policy: { ...config.store, modelStore: store },
          }),
        release: ({ folder, owned }) => releaseModel({ folder, owned }),
        nameOf: (url) => parseModelUrl(url).suggestedName,
        configure: (registration, folder) => config.configure(registration, folder).config,
      },
    });
    http = await startServer({}, null, { service: manager, management: manager });
    for (const model of [...config.models, ...config.remoteModels]) await manager.enlist(model).start();
  });
  afterAll(async () => {
    await manager.close();
    await http.server.close();
    rmSync(root, { recursive: true, force: true });
  });

  const ask = async (name: string, body: unknown) => {
    const response = await fetch(`${http.url}/predictions/${name}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    expect(response.status, await response.clone().text()).toBe(200);
    return response.json();
  };

  it('serves the latest version of Triton’s bert-large, with its batching and instances', async () => {
    const [first] = JSON.parse(readFileSync(path.join(MODELS, 'bert.json'), 'utf8')) as {
      inputs: unknown[];
      outputs: { name: string; shape: number[]; data: number[] }[];
    }[];
    const { outputs } = (await ask('bert_large', { inputs: first!.inputs })) as typeof first & object;
    expect(outputs.map(({ name, shape }) => [name, shape])).toEqual([
      ['last_hidden_state', [1, 4, 32]],
      ['pooled', [1, 32]],
    ]);
    outputs[1]!.data.forEach((one, index) => {
      expect(one).toBeCloseTo(first!.outputs[1]!.data[index]!, 5);
    });
    expect(manager.describe('bert_large', null)[0]).toMatchObject({
      ...{ batchSize: 8, maxBatchDelayMs: 3, minGroups: 2, maxGroups: 2 },
    });
  });

  it('serves the versions that a policy allows, the latest to who names none, others where they are asked for', async () => {
    const x = [[0.1, -0.2, 0.3, 0.5, -1, 2, 0, 1]];
    expect(manager.describe('changing', null).map(({ version }) => version)).toEqual(['2', '3']);
    expect(await ask('changing/2', { inputs: { x } })).toEqual({ y: [expect.any(Array)] });
    for (let turn = 0; turn < 3; turn++) {
      const answer = await fetch(`${http.url}/v2/models/changing/infer`, {
        method: 'POST',
        body: JSON.stringify({ inputs: [{ name: 'x', shape: [1, 8], datatype: 'FP32', data: x[0] }] }),
      });
      expect([answer.status, await answer.text()]).toEqual([400, expect.stringContaining('takes [-1,4]')]);
    }
    const latest = await fetch(`${http.url}/v2/models/changing`);
    expect(await latest.json()).toMatchObject({ inputs: [{ name: 'x' }, { name: 'chosen' }] });
    const named = await fetch(`${http.url}/v2/models/changing/versions/2`);
    expect(await named.json()).toMatchObject({ versions: ['2', '3'], inputs: [{ name: 'x' }] });
    // As by Triton's explicit control.
    const register = (version: string) => {
      const query = new URLSearchParams({ url: path.join(store, 'changing'), model_name: 'older' });
      return fetch(`${http.url}/models?${query}&model_version=${version}`, { method: 'POST' });
    };
    expect((await register('1')).status).toBe(200);
    const older = await fetch(`${http.url}/v2/models/older`);
    const { inputs, versions } = (await older.json()) as {
      inputs: { shape: number[] }[];
      versions: string[];
    };
    expect([versions, inputs[0]!.shape.length]).toEqual([['1'], 3]);
    expect(await (await register('9')).text()).toContain('no version 9 is there, of 1, 2, 3');
  });

  it('refuses a config.pbtxt that names a tensor which the model has not', async () => {
    const folder = path.join(root, 'misnamed');
    mkdirSync(path.join(folder, '1'), { recursive: true });
    cpSync(path.join(MODELS, 'mlp.onnx'), path.join(folder, '1', 'model.onnx'));
    writeFileSync(path.join(folder, 'config.pbtxt'), 'output [ { name: "scores" dims: [ 3 ] } ]');
    const registration = { name: 'misnamed', version: null, url: folder, where: 'test', arguments: {} };
    await expect(manager.enlist(registration).start()).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: expect.stringContaining('names the output scores, but the model has y'),
    });
    await manager.unregister('misnamed', null);
  });

  it('serves a .mar with a handler of its own, by its manifest and model-config.yaml', async () => {
    const x = [0.1, -0.2, 0.3, 0.5, -1, 2, 0, 1];
    const doubled = (await ask('doubled', x)) as number[];
    const plain = (await ask('plain', { inputs: { x: [x] } })) as { y: number[][] };
    expect(doubled).toHaveLength(3);
    doubled.forEach((one, index) => {
      expect(one).toBeCloseTo(plain.y[0]![index]! * 2, 5);
    });
    expect(manager.describe('doubled', null)[0]).toMatchObject({ batchSize: 4, maxBatchDelayMs: 5 });
  });

  it.each([
    [
      'Triton’s TorchScript',
      { 'config.pbtxt': 'platform: "pytorch_libtorch"', '1/model.pt': '' },
      /torch\.onnx\.export/,
    ],
    [
      'a version that is not there',
      { 'config.pbtxt': 'version_policy { specific { versions: [2] } }', '1/model.onnx': '' },
      /none of the versions of its policy is there, of 1/,
    ],
    [
      'a broken config.pbtxt',
      { 'config.pbtxt': 'name: "x"\ninput [' },
      /config\.pbtxt:2: the end is no value|config\.pbtxt:2: the end/,
    ],
    [
      'an ensemble',
      { 'config.pbtxt': 'platform: "ensemble" ensemble_scheduling { }' },
      /ensemble does not run here: it is a workflow: register its folder by POST \/workflows/,
    ],
    [
      'TorchServe’s Python',
      { 'MAR-INF/MANIFEST.json': '{"model": {"handler": "my_handler"}}', 'my_handler.py': '' },
      /my_handler is Python.*model\.ts/,
    ],
    [
      'TorchServe’s .pt',
      { 'MAR-INF/MANIFEST.json': '{"model": {"serializedFile": "m.pt"}}', 'm.pt': '' },
      /m\.pt is PyTorch's.*torch\.onnx\.export/,
    ],
    [
      'a file upwards',
      { 'MAR-INF/MANIFEST.json': '{"model": {"serializedFile": "../m.onnx"}}' },
      /\.\.\/m\.onnx is not in it/,
    ],
  ])('refuses %s in a sentence', (_what, files, words) => {
    const folder = mkdtempSync(path.join(root, 'refused-'));
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
      writeFileSync(path.join(folder, name), text);
    }
    const registration = { name: 'r', version: null, url: folder, where: 'test', arguments: {} };
    expect(() => configOf({ SERVING_LOAD_MODELS: 'NONE' }).configure(registration, folder)).toThrow(words);
  });

  it('archives as torch-model-archiver does, and replaces nothing unasked', async () => {
    const flags = [
      '--model-name',
      'a',
      '--export-path',
      root,
      '--serialized-file',
      path.join(MODELS, 'mlp.onnx'),
    ];
    const folder = await archiveModel([
      ...flags,
      '--archive-format',
      'no-archive',
      '--handler',
      'text_classifier',
    ]);
    expect(JSON.parse(readFileSync(path.join(folder, 'MAR-INF/MANIFEST.json'), 'utf8'))).toMatchObject({
      createdOn: expect.stringMatching(/^\d\d\/\d\d\/\d{4} [\d:]{8}$/),
      model: { modelName: 'a', modelVersion: '1.0', serializedFile: 'mlp.onnx', handler: 'text_classifier' },
    });
    await expect(archiveModel([...flags, '--archive-format', 'no-archive'])).rejects.toThrow(
      'is there already',
    );
    await archiveModel([...flags, '--archive-format', 'no-archive', '-f']);
    await expect(archiveModel([...flags, '--extra-files', 'absent.json', '-f'])).rejects.toThrow(
      'no file absent.json',
    );
    await expect(archiveModel([...flags, '--archive-format', 'rar'])).rejects.toThrow('one of default');
    expect(existsSync(path.join(root, 'a.mar'))).toBe(false);
  });
});
