/** Ten kinds of ONNX models, registered and asked over HTTP, alone and joined: onnxruntime's Python API answers the same. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ModelConfig } from '../../../server/config/config.js';
import { OnnxEngine } from '../../../server/engines/onnx/onnx-engine.js';
import { readNpz, writeNpz } from '../../../server/http/bodies/numpy-format.js';
import { elementsOfTensor, tensorsOfJson } from '../../../server/http/bodies/tensor-json.js';
import type { WorkObserver } from '../../../server/jobs/work-observer.js';
import { WorkLoadManager } from '../../../server/work-load-manager/work-load-manager.js';
import { LogRecorder } from '../../fixtures/log-recorder.js';
import { FAKE_CONFIG } from '../../support/fake-model.js';
import { startServer, type TestServer } from '../../support/http-fixtures.js';
import { repositoryRoot } from '../../support/repository-root.js';

const FOLDER = path.join(repositoryRoot, 'test/golden/onnx-models');
/** A share of the largest number of an output. */
const TOLERANCE = 1e-5;

interface Tensor {
  name: string;
  shape: number[];
  datatype: string;
  data: (number | string | boolean)[];
}
interface Case {
  inputs: Tensor[];
  outputs: Tensor[];
}

const names = readdirSync(FOLDER)
  .filter((name) => name.endsWith('.onnx'))
  .map((name) => path.basename(name, '.onnx'));
const casesOf = (name: string) =>
  JSON.parse(readFileSync(path.join(FOLDER, `${name}.json`), 'utf8')) as Case[];

const nothing = (): void => {};
const QUIET: WorkObserver = {
  ...{ jobStarted: nothing, firstToken: nothing, nextToken: nothing, stepDone: nothing, jobEnded: nothing },
  ...{ refused: nothing, groupRestarted: nothing, loaded: nothing, loadingFailed: nothing, closed: nothing },
};

/** Sentences about what differs. */
function differences(given: readonly Tensor[], wanted: readonly Tensor[]): string[] {
  return wanted.flatMap((want, index) => {
    const got = given[index];
    if (got === undefined) return [`${want.name} is missing`];
    const head = ({ datatype, name, shape }: Tensor) => `${name}: ${datatype} [${shape.join(',')}]`;
    if (head(got) !== head(want)) return [`${head(got)} instead of ${head(want)}`];
    const numbers = want.data.every((one) => typeof one === 'number') && want.datatype.startsWith('FP');
    if (!numbers)
      return JSON.stringify(got.data) === JSON.stringify(want.data) ? [] : [`${want.name} differs`];
    const largest = Math.max(...want.data.map((one) => Math.abs(one as number)));
    const worst = Math.max(
      0,
      ...want.data.map((one, at) => Math.abs((one as number) - (got.data[at] as number))),
    );
    return worst <= TOLERANCE * largest || want.data.length === 0
      ? []
      : [`${want.name} differs by ${worst}, its largest number is ${largest}`];
  });
}

describe('ONNX models', () => {
  const scratch = mkdtempSync(path.join(tmpdir(), 'shardserve-onnx-models-'));
  let manager: WorkLoadManager;
  let http: TestServer;

  beforeAll(async () => {
    manager = new WorkLoadManager({ engineOf: () => new OnnxEngine(), logger: new LogRecorder().logger });
    http = await startServer({}, null, { service: manager, management: manager });
  });
  afterAll(async () => {
    await manager.close();
    await http.server.close();
    rmSync(scratch, { recursive: true, force: true });
  });

  const ask = async (name: string, inputs: readonly Tensor[], url = http.url) => {
    const response = await fetch(`${url}/predictions/${name}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ inputs }),
    });
    expect(response.status, await response.clone().text()).toBe(200);
    return ((await response.json()) as { outputs: Tensor[] }).outputs;
  };

  it('are ten', () => expect(names).toHaveLength(10));

  it.each(names)('%s answers as onnxruntime does in Python, alone and beside others', async (name) => {
    const folder = mkdtempSync(path.join(scratch, name));
    cpSync(path.join(FOLDER, `${name}.onnx`), path.join(folder, 'model.onnx'));
    const config: ModelConfig = {
      ...FAKE_CONFIG,
      ...{ name, folder, engine: 'onnx', batchSize: 16, maxBatchDelayMs: 5, jobQueueSize: 100 },
    };
    await manager.load(config);
    const cases = casesOf(name);
    expect(cases.length).toBeGreaterThan(0);
    for (const { inputs, outputs } of cases)
      expect(differences(await ask(name, inputs), outputs)).toEqual([]);
    const many = Array.from({ length: 24 }, (_, index) => cases[index % cases.length]!);
    const answers = await Promise.all(many.map(({ inputs }) => ask(name, inputs)));
    expect(answers.flatMap((answer, index) => differences(answer, many[index]!.outputs))).toEqual([]);
    await manager.unregister(name, null);
  });

  it('run requests of different lengths together where they are filled up, and each answer is its own', async () => {
    const folder = mkdtempSync(path.join(scratch, 'padded'));
    cpSync(path.join(FOLDER, 'bert.onnx'), path.join(folder, 'model.onnx'));
    const padInputs = { input_ids: 0, attention_mask: 0, token_type_ids: 0 };
    const config: ModelConfig = {
      ...{ ...FAKE_CONFIG, name: 'padded', folder, engine: 'onnx', padInputs },
      ...{ batchSize: 16, maxBatchDelayMs: 50, jobQueueSize: 100 },
    };
    const batches: number[] = [];
    const observing = new WorkLoadManager({
      engineOf: () => new OnnxEngine(),
      logger: new LogRecorder().logger,
      observe: () => ({ ...QUIET, stepDone: (rows) => batches.push(rows) }),
    });
    const server = await startServer({}, null, { service: observing, management: observing });
    await observing.load(config);
    const cases = casesOf('bert');
    const many = Array.from({ length: 8 }, (_, index) => cases[index % cases.length]!);
    const answers = await Promise.all(many.map(({ inputs }) => ask('padded', inputs, server.url)));
    expect(answers.flatMap((answer, index) => differences(answer, many[index]!.outputs))).toEqual([]);
    expect(Math.max(...batches)).toBeGreaterThan(4);
    const wrong = { ...config, name: 'wrong', padInputs: { ids: 0 } };
    await expect(observing.load(wrong)).rejects.toThrow(
      /option\.pad_inputs cannot be kept: the model has no input ids/,
    );
    await observing.close();
    await server.server.close();
  });

  it('take arrays of NumPy, by name and by place, and answer alike', async () => {
    const folder = mkdtempSync(path.join(scratch, 'numpy'));
    cpSync(path.join(FOLDER, 'two-inputs.onnx'), path.join(folder, 'model.onnx'));
    await manager.load({ ...FAKE_CONFIG, ...{ name: 'numpy', folder, engine: 'onnx' } });
    const [{ inputs, outputs }] = casesOf('two-inputs') as [Case];
    const { inputs: tensors } = tensorsOfJson({ inputs }, { inputs: [], outputs: [] });
    const arrays = tensors.map((tensor, index) => ({ ...tensor, name: `arr_${index}` }));
    for (const sent of [tensors, arrays]) {
      const response = await fetch(`${http.url}/predictions/numpy`, {
        method: 'POST',
        headers: { 'content-type': 'tensor/npz' },
        body: new Uint8Array(await writeNpz(sent)),
      });
      expect(response.headers.get('content-type'), await response.clone().text()).toBe('tensor/npz');
      const [y] = await readNpz(Buffer.from(await response.arrayBuffer()), 2 ** 20);
      const given = { ...y!, datatype: y!.type, data: elementsOfTensor(y!) } as unknown as Tensor;
      expect(differences([given], outputs)).toEqual([]);
    }
    const broken = await fetch(`${http.url}/predictions/numpy`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-npy' },
      body: 'no array',
    });
    expect([broken.status, await broken.text()]).toEqual([
      400,
      expect.stringMatching(/not in NumPy's format/),
    ]);
    await manager.unregister('numpy', null);
  });
});
