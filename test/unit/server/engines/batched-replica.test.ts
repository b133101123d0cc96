/** The loop that gives a process its batches: the next one goes first, then the answers of the one before are told; what becomes of them when it dies. */
import pino from 'pino';
import { afterEach, expect, it } from 'vitest';
import { ServingError } from '../../../../proto/errors.js';
import type { ModelConfig } from '../../../../server/config/config.js';
import {
  type Answers,
  type BatchedChild,
  type BatchedJob,
  BatchedReplica,
} from '../../../../server/engines/batched-replica.js';
import { systemClock } from '../../../../server/jobs/clock.js';
import { Job } from '../../../../server/jobs/job.js';
import { JobQueue } from '../../../../server/jobs/job-queue.js';

class TestJob extends Job implements BatchedJob {
  readonly batchKey = 'any';
  readonly rows = 1;
}

interface Batch {
  end: () => void;
  die: (error: ServingError) => void;
}

/** What happened, in words. */
let story: string[] = [];
let batches: Batch[] = [];
afterEach(() => {
  story = [];
  batches = [];
});

class TestReplica extends BatchedReplica<TestJob, BatchedChild> {
  protected async launch(): Promise<BatchedChild> {
    return { pid: undefined, failed: new Promise(() => {}), stop: async () => {} };
  }

  protected async runJobs(jobs: readonly TestJob[]): Promise<Answers> {
    const ids = jobs.map(({ id }) => id).join();
    story.push(`given ${ids}`);
    await new Promise<void>((resolve, reject) => batches.push({ end: resolve, die: reject }));
    story.push(`done ${ids}`);
    return () => {
      story.push(`told ${ids}`);
      for (const job of jobs) this.finish(job);
    };
  }
}

const queue = () => new JobQueue<TestJob>('m', 100, 60_000, () => systemClock.nowMs());

let lastId = 0;
function push(to: JobQueue<TestJob>): TestJob {
  const request = { requestId: 'r', model: 'm', version: null } as TestJob['request'];
  const job = new TestJob({ id: ++lastId, request, eventCapacity: 2, queuedAtMs: systemClock.nowMs() });
  job.ended.then(() => story.push(`ended ${job.id}`));
  to.push(job);
  return job;
}

async function started(
  of: JobQueue<TestJob>,
  more: Partial<ModelConfig> = {},
): Promise<{ replica: TestReplica; running: Promise<void> }> {
  lastId = 0;
  const replica = new TestReplica({
    config: { batchSize: 2, maxBatchDelayMs: 60_000, requestRetries: 0, ...more } as ModelConfig,
    ...{ queue: of, threads: 1, sharesCores: false, mayStart: () => Number.POSITIVE_INFINITY },
    ...{ onIdle: () => {}, logger: pino({ level: 'silent' }), hooks: {} },
  });
  await replica.start(new AbortController().signal);
  return { replica, running: replica.run() };
}

/** All that can happen without a new event has happened. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

it('gives the next batch before it tells the answers of the last', async () => {
  const jobs = queue();
  const { replica, running } = await started(jobs);
  for (let count = 0; count < 4; count++) push(jobs);
  await settled();
  batches[0]!.end();
  await settled();
  expect(story).toEqual(['given 1,2', 'done 1,2', 'given 3,4', 'told 1,2', 'ended 1', 'ended 2']);
  batches[1]!.end();
  await settled();
  expect(story.slice(6)).toEqual(['done 3,4', 'told 3,4', 'ended 3', 'ended 4']);
  replica.drain();
  await running;
});

it('tells answers at once where no full batch waits, and before it ends', async () => {
  const jobs = queue();
  const { replica, running } = await started(jobs);
  for (let count = 0; count < 3; count++) push(jobs);
  await settled();
  replica.drain();
  batches[0]!.end();
  await running;
  expect(story).toEqual(['given 1,2', 'done 1,2', 'told 1,2', 'ended 1', 'ended 2']);
});

it('does not wait for more where a preferred size is reached', async () => {
  const jobs = queue();
  const repository = { isLatest: true, inputs: [], outputs: [], preferredRows: [2, 4], warmUps: [] };
  const { replica, running } = await started(jobs, { batchSize: 8, repository });
  push(jobs);
  await settled();
  expect(story).toEqual([]);
  for (let count = 0; count < 4; count++) push(jobs);
  await settled();
  expect(story).toEqual(['given 1,2,3,4']);
  batches[0]!.end();
  await settled();
  expect(story).toHaveLength(7);
  push(jobs);
  await settled();
  expect(story[7]).toBe('given 5,6');
  replica.drain();
  batches[1]!.end();
  await running;
});

it('tells the answers that are there though the next batch ends the process', async () => {
  const jobs = queue();
  const { running } = await started(jobs);
  const [first, , third] = [push(jobs), push(jobs), push(jobs), push(jobs)];
  await settled();
  batches[0]!.end();
  await settled();
  const error = new ServingError('WORKER_FAILED', 'gone');
  batches[1]!.die(error);
  await expect(running).rejects.toBe(error);
  expect(first.stream.ending).toMatchObject({ kind: 'finish' });
  expect(third.stream.ending).toBe(error);
});

it('gives what a process died with to the next one, each alone and at once; what was in too many deaths ends', async () => {
  const jobs = queue();
  const retries = { requestRetries: 2 };
  const first = await started(jobs, retries);
  const [bad, good] = [push(jobs), push(jobs)];
  await settled();
  const error = new ServingError('WORKER_FAILED', 'gone');
  for (let life = first, death = 0; ; death++, life = await started(jobs, retries)) {
    await settled();
    batches[death]!.die(error);
    await expect(life.running).rejects.toBe(error);
    expect(life.replica.deathsOfRequests).toBe(1);
    if (bad.stream.ended) break;
  }
  expect(bad.stream.ending).toMatchObject({ message: expect.stringMatching(/^gone; .* ran alone/) });
  const { replica, running } = await started(jobs, retries);
  await settled();
  batches[3]!.end();
  await good.ended;
  replica.drain();
  await running;
  expect(story.filter((line) => line.startsWith('given'))).toEqual([
    ...['given 1,2', 'given 1', 'given 1', 'given 2'],
  ]);
  expect(good.stream.ending).toMatchObject({ kind: 'finish' });
});
