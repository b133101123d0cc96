/** The loop that gives a process its batches: the next one goes first, then the answers of the one before are told; what becomes of them when it dies. */
import pino from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ServingError } from '../../../../proto/errors.js';
import type { ModelConfig } from '../../../../server/config/config.js';
import {
  ALL_TOLD,
  type Answers,
  type BatchedChild,
  type BatchedJob,
  BatchedReplica,
} from '../../../../server/engines/batched-replica.js';
import { systemClock } from '../../../../server/jobs/clock.js';
import { Job } from '../../../../server/jobs/job.js';
import { JobQueue } from '../../../../server/jobs/job-queue.js';
import type { WorkObserver } from '../../../../server/jobs/work-observer.js';

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
  waits = [];
});

/** Batches are run in parts. */
let partly = false;
/** How long the jobs that started had waited. */
let waits: number[] = [];

class TestReplica extends BatchedReplica<TestJob, BatchedChild> {
  protected async launch(): Promise<BatchedChild> {
    return { pid: undefined, failed: new Promise(() => {}), stop: async () => {} };
  }

  protected async runJobs(jobs: readonly TestJob[]): Promise<Answers> {
    const ids = jobs.map(({ id }) => id).join();
    story.push(`given ${ids}`);
    const ended = () => new Promise<void>((resolve, reject) => batches.push({ end: resolve, die: reject }));
    await ended();
    if (partly && jobs.length > 1) {
      await this.runApart(jobs, async (job) => {
        story.push(`part ${job.id}`);
        await ended();
        this.finish(job);
      });
      return ALL_TOLD;
    }
    story.push(`done ${ids}`);
    return () => {
      story.push(`told ${ids}`);
      for (const job of jobs) this.finish(job);
    };
  }
}

class AheadReplica extends TestReplica {
  protected override readonly runsAhead = true;
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
  { othersHaveRoom = () => false, ...more }: Partial<ModelConfig> & { othersHaveRoom?: () => boolean } = {},
  Kind = TestReplica,
): Promise<{ replica: TestReplica; running: Promise<void> }> {
  lastId = 0;
  const seen: Partial<WorkObserver> = { jobStarted: (ms) => void waits.push(ms), jobResumed: () => {} };
  const replica = new Kind({
    config: { batchSize: 2, maxBatchDelayMs: 60_000, requestRetries: 0, ...more } as ModelConfig,
    ...{
      queue: of,
      threads: 1,
      sharesCores: false,
      mayStart: () => Number.POSITIVE_INFINITY,
      othersHaveRoom,
    },
    ...{ onIdle: () => {}, logger: pino({ level: 'silent' }), hooks: { observer: seen as WorkObserver } },
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

it.each([1, 5])('survives one hang and no second, with %i retries', async (requestRetries) => {
  const jobs = queue();
  const hang = new ServingError('STEP_TIMEOUT', 'no answer');
  const first = await started(jobs, { requestRetries });
  const [bad, good] = [push(jobs), push(jobs)];
  await settled();
  batches[0]!.die(hang);
  await expect(first.running).rejects.toBe(hang);
  const second = await started(jobs, { requestRetries });
  await settled();
  batches[1]!.die(hang);
  await expect(second.running).rejects.toBe(hang);
  await settled();
  expect(story).toEqual(['given 1,2', 'given 1', 'ended 1']);
  expect(bad.stream.ending).toMatchObject({ message: expect.stringMatching(/ran alone/) });
  expect(good.stream.ended).toBe(false);
});

describe('a batch that goes ahead', () => {
  // A batch takes as long as the test says.
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['performance', 'setTimeout', 'clearTimeout'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  /** A replica that has done a batch in `ms`. */
  async function warm(
    jobs: JobQueue<TestJob>,
    more: Partial<ModelConfig> & { othersHaveRoom?: () => boolean } = {},
    ms = 100,
  ): ReturnType<typeof started> {
    const life = await started(jobs, { requestRetries: 2, ...more }, AheadReplica);
    push(jobs);
    push(jobs);
    await settled();
    vi.advanceTimersByTime(ms);
    batches[0]!.end();
    await settled();
    story = [];
    batches = [];
    lastId = 0;
    return life;
  }

  it('is given when it is full, and starts when nothing is before it; there is no third', async () => {
    const jobs = queue();
    const { replica, running } = await warm(jobs);
    const all = Array.from({ length: 3 }, () => push(jobs));
    await settled();
    expect(story).toEqual(['given 1,2']);
    expect(replica.load).toEqual({ running: 2, room: 0, ahead: 0 });
    all.push(push(jobs), push(jobs), push(jobs));
    await settled();
    expect(story).toEqual(['given 1,2', 'given 3,4']);
    expect(replica.load).toEqual({ running: 4, room: 0, ahead: 2 });
    expect(replica.sample().sequencesRunning).toBe(2);
    expect(jobs.length).toBe(2);
    vi.advanceTimersByTime(30);
    batches[0]!.end();
    await settled();
    expect(story.slice(2)).toEqual(['done 1,2', 'given 5,6', 'told 1,2', 'ended 1', 'ended 2']);
    expect(replica.load.ahead).toBe(2);
    const waitedMs = ({ queuedAtMs, startedAtMs }: TestJob) => startedAtMs! - queuedAtMs;
    expect(all.slice(0, 4).map(waitedMs)).toEqual([0, 0, 30, 30]);
    expect(all[4]!.startedAtMs).toBe(null);
    for (const batch of batches.slice(1)) batch.end();
    replica.drain();
    await running;
    expect(waits).toEqual([0, 0, 0, 0, 30, 30, 30, 30]);
  });

  it.each([
    ['it is not full', { batchSize: 3 }, 100],
    ['the last one took long', {}, 101],
    ['another replica has room', { othersHaveRoom: () => true }, 100],
  ])('is none where %s', async (_why, more, ms) => {
    const jobs = queue();
    const { replica, running } = await warm(jobs, { maxBatchDelayMs: 0, ...more }, ms);
    push(jobs);
    await settled();
    push(jobs);
    push(jobs);
    await settled();
    expect(story).toEqual(['given 1']);
    batches[0]!.end();
    await settled();
    expect(story).toContain('given 2,3');
    replica.drain();
    batches[1]!.end();
    await running;
  });

  it('runs to its end when the replica is drained', async () => {
    const jobs = queue();
    const { replica, running } = await warm(jobs);
    const all = Array.from({ length: 6 }, () => push(jobs));
    await settled();
    replica.drain();
    batches[0]!.end();
    batches[1]!.end();
    await running;
    expect(all.map(({ stream }) => stream.ended)).toEqual([true, true, true, true, false, false]);
    expect(jobs.length).toBe(2);
  });

  it('loses nothing by a death that is none of its own; a suspect has the process to itself', async () => {
    const jobs = queue();
    const first = await warm(jobs);
    const all = Array.from({ length: 6 }, () => {
      vi.advanceTimersByTime(1);
      return push(jobs);
    });
    await settled();
    const error = new ServingError('WORKER_FAILED', 'gone');
    batches[0]!.die(error);
    batches[1]!.die(error);
    await expect(first.running).rejects.toBe(error);
    expect(all.map(({ deaths }) => deaths)).toEqual([1, 1, 0, 0, 0, 0]);
    expect(first.replica.deathsOfRequests).toBe(1);
    batches = [];
    story = [];
    const second = await started(jobs, { requestRetries: 2 }, AheadReplica);
    await settled();
    expect(story).toEqual(['given 1']);
    batches[0]!.end();
    await settled();
    // It has worked, but what runs now is a suspect again; and no suspect goes ahead.
    batches[1]!.end();
    await settled();
    expect(story.filter((line) => line.startsWith('given'))).toEqual([
      ...['given 1', 'given 2', 'given 3,4', 'given 5,6'],
    ]);
    batches[2]!.end();
    batches[3]!.end();
    second.replica.drain();
    await second.running;
    expect(all.every(({ stream }) => (stream.ending as { kind?: string }).kind === 'finish')).toBe(true);
  });

  it('goes back to the queue without retries too, while what the process died of fails', async () => {
    const jobs = queue();
    const { running } = await warm(jobs, { requestRetries: 0 });
    const all = Array.from({ length: 4 }, () => push(jobs));
    await settled();
    const error = new ServingError('STEP_TIMEOUT', 'no answer');
    batches[0]!.die(error);
    await expect(running).rejects.toBe(error);
    expect(all.map(({ stream }) => stream.ending)).toEqual([error, error, null, null]);
    expect(jobs.waiting.map(({ id }) => id)).toEqual([3, 4]);
    // The other one's end comes to nobody.
    batches[1]!.end();
    await settled();
    expect(story).not.toContain('told 3,4');
  });

  it('starts nothing that was cancelled meanwhile', async () => {
    const jobs = queue();
    const { replica, running } = await warm(jobs);
    const all = Array.from({ length: 4 }, () => push(jobs));
    await settled();
    all[3]!.cancel(new ServingError('CANCELLED', 'left'));
    batches[0]!.end();
    await settled();
    expect(all.map(({ startedAtMs }) => startedAtMs !== null)).toEqual([true, true, true, false]);
    replica.drain();
    batches[1]!.end();
    await running;
  });

  it('waits while one is run in parts', async () => {
    const jobs = queue();
    const { replica, running } = await warm(jobs);
    partly = true;
    for (let count = 0; count < 4; count++) push(jobs);
    await settled();
    expect(story).toEqual(['given 1,2', 'given 3,4']);
    batches[0]!.end();
    await settled();
    push(jobs);
    push(jobs);
    await settled();
    // Its parts come behind the second, as they were asked for later.
    expect(story.slice(2)).toEqual(['part 1']);
    partly = false;
    batches[1]!.end();
    await settled();
    expect(story.slice(3)).toEqual(['done 3,4', 'told 3,4', 'ended 3', 'ended 4']);
    batches[2]!.end();
    await settled();
    expect(story.slice(7)).toEqual(['ended 1', 'part 2']);
    batches[3]!.end();
    await settled();
    expect(story.slice(9)).toEqual(['ended 2', 'given 5,6']);
    batches[4]!.end();
    await settled();
    replica.drain();
    await running;
  });
});
