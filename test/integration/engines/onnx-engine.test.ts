/** A float ONNX model end to end: registered over HTTP, asked at DJLServing's path, batched, its mistakes told, unregistered. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ModelConfig } from '../../../server/config/config.js';
import { nextBatch } from '../../../server/engines/batched-replica.js';
import { OnnxEngine } from '../../../server/engines/onnx/onnx-engine.js';
import { WorkLoadManager } from '../../../server/work-load-manager/work-load-manager.js';
import { LogRecorder } from '../../fixtures/log-recorder.js';
import { dense, denseModel } from '../../support/dense-onnx.js';
import { FAKE_CONFIG, fakeStore } from '../../support/fake-model.js';
import { startServer, type TestServer } from '../../support/http-fixtures.js';

describe('an ONNX model', () => {
  let folder = '';
  let manager: WorkLoadManager;
  let http: TestServer;
  const log = new LogRecorder();
  const config: Partial<ModelConfig> = {
    ...FAKE_CONFIG,
    engine: 'onnx',
    batchSize: 4,
    maxBatchDelayMs: 20,
    jobQueueSize: 100,
  };

  beforeAll(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'shardserve-onnx-'));
    writeFileSync(path.join(folder, 'dense.onnx'), denseModel());
    manager = new WorkLoadManager({
      engineOf: () => new OnnxEngine(),
      registration: { ...fakeStore(config), fetch: async () => ({ folder, owned: false }) },
      logger: log.logger,
    });
    http = await startServer({}, null, { service: manager, management: manager });
    const registered = await fetch(`${http.url}/models?url=file:///dense&synchronous=true`, {
      method: 'POST',
    });
    expect(registered.status, await registered.text()).toBe(200);
  });
  afterAll(async () => {
    await manager.close();
    await http.server.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const ask = (body: unknown, name = 'dense') =>
    fetch(`${http.url}/predictions/${name}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  const near = (given: unknown, wanted: number[][]) => {
    const rows = given as number[][];
    expect(rows.map((row) => row.length)).toEqual(wanted.map((row) => row.length));
    for (const [index, row] of rows.entries())
      for (const [column, value] of row.entries()) expect(value).toBeCloseTo(wanted[index]![column]!, 5);
  };

  it('answers named lists, the protocol’s tensors and a bare list, each in its own form', async () => {
    const rows = [
      [1, 2, 3],
      [-4, 0.5, 0],
    ];
    const named = (await (await ask({ inputs: { x: rows } })).json()) as { y: number[][] };
    near(named.y, dense(rows));
    const listed = (await (
      await ask({ inputs: [{ name: 'x', shape: [2, 3], datatype: 'FP32', data: rows.flat() }] })
    ).json()) as { outputs: { name: string; shape: number[]; datatype: string; data: number[] }[] };
    expect(listed.outputs[0]).toMatchObject({ name: 'y', shape: [2, 2], datatype: 'FP32' });
    near([listed.outputs[0]!.data], [dense(rows).flat()]);
    near(await (await ask(rows)).json(), dense(rows));
  });

  it('gives each of many requests its own rows', async () => {
    const questions = Array.from({ length: 40 }, (_, index) =>
      Array.from({ length: 1 + (index % 3) }, (_row, row) => [index, row, -index / 7]),
    );
    const answers = await Promise.all(
      questions.map(async (rows) => (await ask({ inputs: { x: rows } })).json()),
    );
    answers.forEach((answer, index) => {
      near((answer as { y: number[][] }).y, dense(questions[index]!));
    });
  });

  it.each([
    [{ inputs: { z: [[1, 2, 3]] } }, /no input z; it has x/],
    [{ inputs: { x: [[1, 2]] } }, /x is \[1,2\], but the model takes \[-1,3\]/],
    [{ inputs: { x: [[1, 2, 3], [1]] } }, /x is ragged/],
    [{ inputs: { x: [['a', 'b', 'c']] } }, /x is FP32, but holds a string/],
    [{ inputs: [{ name: 'x', shape: [1, 3], datatype: 'FP32', data: [1] }] }, /1 elements, but its shape/],
    [
      { inputs: [{ name: 'x', shape: [1, 3], datatype: 'INT32', data: [1, 2, 3] }] },
      /x is INT32, but the model takes FP32/,
    ],
  ])('refuses %j in a sentence', async (body, sentence) => {
    const response = await ask(body);
    expect(response.status).toBe(400);
    expect(((await response.json()) as { message: string }).message).toMatch(sentence);
  });

  it('is not asked for text', async () => {
    const response = await fetch(`${http.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'dense', prompt: 'Once' }),
    });
    expect(response.status).toBe(400);
    expect(await response.text()).toMatch(/takes tensors \(inputs: x\) and makes no text/);
  });

  it('is served again after its process was killed', async () => {
    const pidOf = () => manager.describe('dense', null)[0]!.groups[0]?.ranks[0]?.pid ?? null;
    const pid = pidOf();
    expect(pid).not.toBeNull();
    process.kill(pid!, 'SIGKILL');
    await log.find((line) => line.msg === 'worker group died');
    const answer = (await (await ask({ inputs: { x: [[1, 1, 1]] } })).json()) as { y: number[][] };
    near(answer.y, dense([[1, 1, 1]]));
    expect(pidOf()).not.toBe(pid);
  });

  it('tells a file that ONNX Runtime does not load', async () => {
    const broken = mkdtempSync(path.join(tmpdir(), 'shardserve-onnx-'));
    writeFileSync(path.join(broken, 'model.onnx'), 'no model');
    const other = { ...(FAKE_CONFIG as ModelConfig), ...config, name: 'broken', folder: broken };
    await expect(manager.load(other)).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: expect.stringMatching(/model\.onnx is not loaded by ONNX Runtime: /),
    });
    rmSync(broken, { recursive: true });
  });

  it('is gone when it is unregistered', async () => {
    const gone = await fetch(`${http.url}/models/dense`, { method: 'DELETE' });
    expect(gone.status).toBe(200);
    expect((await ask({ inputs: { x: [[1, 1, 1]] } })).status).toBe(404);
  });
});

describe('a batch', () => {
  it.each([
    [
      [
        ['a', 1],
        ['a', 2],
        ['a', 1],
        ['a', 1],
      ],
      3,
    ],
    [
      [
        ['a', 9],
        ['a', 1],
      ],
      1,
    ],
    [
      [
        ['a', 1],
        ['b', 1],
      ],
      1,
    ],
    [
      [
        [null, 1],
        ['a', 1],
      ],
      1,
    ],
    [[], 0],
  ] as const)('of %j with room for four rows has %i jobs', (jobs, count) => {
    const waiting = jobs.map(([batchKey, rows], at) => ({ batchKey, deaths: 0, rows, queuedAtMs: 9 - at }));
    const batch = nextBatch(waiting, waiting.length, 4);
    const taken = waiting.slice(0, count);
    expect(batch).toEqual({
      count,
      rows: taken.reduce((sum, { rows }) => sum + rows, 0),
      oldestMs: Math.min(...taken.map(({ queuedAtMs }) => queuedAtMs)),
    });
    // One that was in a death is tried alone.
    const suspect = waiting.map((one, at) => ({ ...one, deaths: at === 0 ? 1 : 0 }));
    expect(nextBatch(suspect, suspect.length, 4).count).toBe(Math.min(1, jobs.length));
    const second = waiting.map((one, at) => ({ ...one, deaths: at === 1 ? 1 : 0 }));
    expect(nextBatch(second, second.length, 4).count).toBe(Math.min(1, jobs.length));
    expect(nextBatch(waiting, Math.min(1, waiting.length), 4).count).toBe(Math.min(1, count));
  });
});
