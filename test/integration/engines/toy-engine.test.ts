/**
 * An engine is one object and one line: a toy one, in the table of all engines under its name, is what `engine=toy` in a model's folder
 * says; the model is registered over HTTP, answers in batches, and is unregistered.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ALL_ENGINES, type EngineParts, openEngines } from '../../../server/all-engines.js';
import { loadConfig } from '../../../server/config/load-config.js';
import {
  type Answers,
  type BatchedChild,
  type BatchedJob,
  BatchedReplica,
} from '../../../server/engines/batched-replica.js';
import type { Engine } from '../../../server/engines/engine.js';
import { type JobBasis, WholeRequestModel } from '../../../server/engines/whole-request-model.js';
import { Job } from '../../../server/jobs/job.js';
import type { PredictRequest } from '../../../server/requests/predict-request.js';
import type { JobRequest, Task } from '../../../server/requests/service.js';
import type { Signature } from '../../../server/requests/signature.js';
import { WorkLoadManager } from '../../../server/work-load-manager/work-load-manager.js';
import { LogRecorder } from '../../fixtures/log-recorder.js';
import { startServer, type TestServer } from '../../support/http-fixtures.js';

/** Gives each tensor back, reversed. */
class ToyJob extends Job implements BatchedJob {
  declare readonly request: PredictRequest;
  readonly batchKey = 'any';
  readonly rows = 1;
}

class ToyReplica extends BatchedReplica<ToyJob, BatchedChild> {
  protected async launch(): Promise<BatchedChild> {
    return { pid: undefined, failed: new Promise(() => {}), stop: async () => {} };
  }

  protected async runJobs(jobs: readonly ToyJob[]): Promise<Answers> {
    batches.push(jobs.length);
    return () => {
      for (const job of jobs) {
        const outputs = job.request.inputs.map((tensor) => ({ ...tensor, bytes: tensor.bytes.toReversed() }));
        job.stream.push({ kind: 'value', outputs });
        this.finish(job);
      }
    };
  }
}

class ToyModel extends WholeRequestModel<ToyJob> {
  readonly task: Task = 'tensors';
  protected jobOf = (request: JobRequest, basis: JobBasis) =>
    new ToyJob({ ...basis, request, eventCapacity: 2 });
  protected replicaOf = (options: ConstructorParameters<typeof ToyReplica>[0]) => new ToyReplica(options);
}

const SIGNATURE: Signature = { inputs: [{ name: 'x', type: 'UINT8', shape: [-1] }], outputs: [] };

const toyEngine: Engine = {
  prepare: async (config) =>
    new ToyModel(config, { weightBytes: 0, kvBytes: 0, workspaceBytes: 1, totalBytes: 1 }, SIGNATURE),
};

/** The line. */
const engines = { ...ALL_ENGINES, toy: () => toyEngine };

const batches: number[] = [];
const scratch = mkdtempSync(path.join(tmpdir(), 'shardserve-toy-'));
const folder = path.join(scratch, 'models', 'reverse');
let manager: WorkLoadManager;
let http: TestServer;
beforeAll(async () => {
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'serving.properties'), 'engine=toy\nbatch_size=2\nmax_batch_delay=60000\n');
  const config = loadConfig({
    ...{ argv: ['-m', 'NONE'], env: {}, cwd: scratch, installation: scratch },
    engines: Object.keys(engines),
  });
  manager = new WorkLoadManager({
    // The others' parts are for models of theirs.
    engineOf: openEngines(engines, {} as EngineParts),
    registration: {
      fetch: async () => ({ folder, owned: false }),
      release: async () => {},
      nameOf: () => 'reverse',
      configure: (registration, at) => config.configure(registration, at).config,
    },
    logger: new LogRecorder().logger,
  });
  http = await startServer({}, null, { service: manager, management: manager });
});
afterAll(async () => {
  await manager.close();
  await http.server.close();
  rmSync(scratch, { recursive: true });
});

const call = async (path: string, method: string, body?: unknown) => {
  const response = await fetch(`${http.url}${path}`, {
    method,
    headers: { 'content-type': 'application/json' },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: (await response.json()) as { outputs?: { data: number[] }[] } };
};

it('is registered, answers two requests as one batch, and is unregistered', async () => {
  const registered = await call(`/models?url=${folder}&model_name=toy&synchronous=true`, 'POST');
  expect(registered.status, JSON.stringify(registered.body)).toBe(200);
  const ask = (data: number[]) =>
    call('/predictions/toy', 'POST', {
      inputs: [{ name: 'x', shape: [data.length], datatype: 'UINT8', data }],
    });
  const answers = await Promise.all([ask([1, 2, 3]), ask([7, 8])]);
  expect(answers.map(({ body }) => body.outputs?.[0]?.data)).toEqual([
    [3, 2, 1],
    [8, 7],
  ]);
  expect(batches).toEqual([2]);
  expect((await call('/models/toy', 'DELETE')).status).toBe(200);
  expect((await ask([1])).status).toBe(404);
});
