/**
 * Two batches in the process of an ONNX model: it is stopped while it has both, and killed. Every request is answered once, with its own
 * rows, and the death is that of the first batch.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pino from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { ModelConfig } from '../../../server/config/config.js';
import type { PreparedModel, Replica } from '../../../server/engines/engine.js';
import { OnnxEngine } from '../../../server/engines/onnx/onnx-engine.js';
import { systemClock } from '../../../server/jobs/clock.js';
import type { Job } from '../../../server/jobs/job.js';
import { JobQueue } from '../../../server/jobs/job-queue.js';
import type { WorkObserver } from '../../../server/jobs/work-observer.js';
import { dense, denseModel } from '../../support/dense-onnx.js';
import { FAKE_CONFIG } from '../../support/fake-model.js';

const ROWS = 4;
let folder = '';
let model: PreparedModel;
beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'shardserve-ahead-'));
  writeFileSync(path.join(folder, 'model.onnx'), denseModel());
  const config: ModelConfig = {
    ...{
      ...FAKE_CONFIG,
      engine: 'onnx',
      folder,
      batching: 'dynamic',
      batchSize: ROWS,
      maxBatchDelayMs: 0,
      requestRetries: 2,
    },
  };
  const { signal } = new AbortController();
  model = await new OnnxEngine().prepare(config, { signal, onNeed: () => {}, onProgress: () => {} });
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** All that can happen without a new event has happened. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

it('are both answered by the next one, none twice, when it is killed', async () => {
  const queue = new JobQueue('m', 100, 60_000, systemClock.nowMs);
  const fitted = model.fit(0);
  const told: string[] = [];
  const observer: Partial<WorkObserver> = {
    jobStarted: () => void told.push('started'),
    jobResumed: () => void told.push('resumed'),
    stepDone: (rows) => void told.push(`ran ${rows}`),
  };
  const start = async (): Promise<{ replica: Replica; running: Promise<void> }> => {
    const replica = fitted.newReplica({
      ...{
        queue: queue as JobQueue,
        threads: 1,
        sharesCores: false,
        mayStart: () => Number.POSITIVE_INFINITY,
      },
      ...{
        onIdle: () => {},
        logger: pino({ level: 'silent' }),
        hooks: { observer: observer as WorkObserver },
      },
    });
    await replica.start(new AbortController().signal);
    return { replica, running: replica.run() };
  };
  let jobId = 0;
  const ask = async (): Promise<Job> => {
    const id = ++jobId;
    const bytes = new Uint8Array(Float32Array.from([id, -id, 0.5]).buffer);
    const inputs = [{ name: 'x', type: 'FP32' as const, shape: [1, 3], bytes }];
    const request = {
      kind: 'predict',
      requestId: `r${id}`,
      model: 'm',
      version: null,
      inputs,
      outputs: null,
    } as const;
    const arrival = { jobId: id, receivedAtMs: systemClock.nowMs(), signal: new AbortController().signal };
    const { job } = await fitted.accept(request, arrival);
    queue.push(job);
    return job;
  };
  const answerOf = async (job: Job): Promise<number[]> => {
    const values: number[][] = [];
    for await (const event of job.stream)
      if (event.kind === 'value') {
        const { buffer, byteLength, byteOffset } = new Uint8Array(event.outputs[0]!.bytes);
        values.push([...new Float32Array(buffer, byteOffset, byteLength / 4)]);
      }
    expect(values).toHaveLength(1);
    return values[0]!;
  };

  const first = await start();
  // None goes ahead behind a slow one, which the first runs may be on a machine that has more to do.
  let sinceMs: number;
  do {
    sinceMs = systemClock.nowMs();
    await answerOf(await ask());
  } while (systemClock.nowMs() - sinceMs > 50);
  told.length = 0;
  const [pid] = first.replica.pids;
  process.kill(pid!, 'SIGSTOP');
  const jobs = await Promise.all(Array.from({ length: 2 * ROWS }, ask));
  await settled();
  const given = first.replica.load;
  process.kill(pid!, 'SIGKILL');
  await expect(first.running).rejects.toMatchObject({ code: 'WORKER_FAILED' });
  await first.replica.stop();
  expect(given).toEqual({ running: 2 * ROWS, room: 0, ahead: ROWS });
  expect(jobs.map(({ deaths }) => deaths)).toEqual([1, 1, 1, 1, 0, 0, 0, 0]);
  expect(told).toEqual(['started', 'started', 'started', 'started']);
  told.length = 0;

  const second = await start();
  const answers = await Promise.all(jobs.map(answerOf));
  answers.forEach((answer, index) => {
    const { id } = jobs[index]!;
    const [wanted] = dense([[id, -id, 0.5]]);
    expect(answer).toEqual(wanted!.map((value) => expect.closeTo(value, 4)));
  });
  // Each of those that were in a death alone, then the others together.
  expect(told).toEqual([
    ...Array.from({ length: ROWS }, () => ['resumed', 'ran 1']).flat(),
    ...Array.from({ length: ROWS }, () => 'started'),
    'ran 4',
  ]);
  second.replica.drain();
  await second.running;
  await second.replica.stop();
});
