/** JobQueue: order, bound, cancelled and overdue jobs. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { ServingError } from '../../../../proto/errors.js';
import { clientLeft } from '../../../../server/jobs/job.js';
import { JobQueue } from '../../../../server/jobs/job-queue.js';
import { makeJob, makeRequest, readAll } from '../../../fixtures/generate-requests.js';

afterEach(() => vi.useRealTimers());

function makeQueue(capacity = 3) {
  vi.useFakeTimers();
  return new JobQueue('toy', capacity, 5000);
}

describe('a job queue', () => {
  it('gives the oldest jobs first', () => {
    const queue = makeQueue();
    const jobs = [makeJob(), makeJob(), makeJob()];
    for (const job of jobs) queue.push(job);
    expect(queue.take(2)).toEqual(jobs.slice(0, 2));
    expect(queue.waiting).toEqual(jobs.slice(2));
  });

  it('refuses a job beyond its capacity with the sentence that clients of DJLServing know', () => {
    const queue = makeQueue(1);
    queue.push(makeJob());
    expect(() => queue.push(makeJob())).toThrow(
      new ServingError('QUEUE_FULL', 'Worker queue capacity exceeded for model: toy', {
        retryAfterSeconds: 1,
      }),
    );
    expect(queue.length).toBe(1);
  });

  it('lets go of a cancelled job at once, so that its place is free', () => {
    const queue = makeQueue(2);
    const [first, second] = [makeJob(), makeJob()];
    queue.push(first);
    queue.push(second);
    first.cancel(clientLeft());
    expect(queue.waiting).toEqual([second]);
    queue.push(makeJob());
    expect(queue.length).toBe(2);
  });

  it('gives jobs by priority, and the oldest first among equals', () => {
    const queue = makeQueue(6);
    const jobs = [3, 5, 1, 3, 1, -2].map((priority) => makeJob({ request: makeRequest({ priority }) }));
    for (const job of jobs) queue.push(job);
    expect(queue.take(6)).toEqual([5, 2, 4, 0, 3, 1].map((index) => jobs[index]));
  });

  it('lets nobody wait longer than half of the limit for jobs that came later, whatever their priority', () => {
    vi.useFakeTimers();
    let nowMs = 0;
    const queue = new JobQueue('toy', 100, 5000, () => nowMs);
    const patient = makeJob({ queuedAtMs: 0, request: makeRequest({ priority: 2 ** 31 - 1 }) });
    queue.push(patient);
    for (nowMs = 100; nowMs <= 2600; nowMs += 100)
      queue.push(makeJob({ queuedAtMs: nowMs, request: makeRequest({ priority: -(2 ** 31) }) }));
    expect(queue.waiting.indexOf(patient)).toBe(24);
  });

  it('ends a job at its own deadline, and says which that was', async () => {
    const queue = makeQueue();
    const job = makeJob({ request: makeRequest({ timeoutMs: 300 }) });
    queue.push(job);
    vi.advanceTimersByTime(299);
    expect(queue.length).toBe(1);
    vi.advanceTimersByTime(1);
    expect(queue.length).toBe(0);
    const { error } = await readAll(job.stream);
    expect(error).toMatchObject({ code: 'REQUEST_TIMEOUT', message: expect.stringContaining('300 ms') });
  });

  it('drops what has expired before anybody looks, though no timer has fired', () => {
    let nowMs = 0;
    vi.useFakeTimers();
    const queue = new JobQueue('toy', 3, 5000, () => nowMs);
    const [expired, other] = [makeJob({ request: makeRequest({ timeoutMs: 100 }) }), makeJob()];
    queue.push(expired);
    queue.push(other);
    nowMs = 100;
    queue.dropExpired();
    expect(queue.waiting).toEqual([other]);
    expect(expired.cancelled).toBe(true);
  });

  it('tells a refused job when the queue will have emptied, by how fast it does', () => {
    let nowMs = 0;
    vi.useFakeTimers();
    const queue = new JobQueue('toy', 10, 100_000, () => nowMs);
    const fill = () => {
      while (queue.length < 10) queue.push(makeJob());
    };
    // One job each half second.
    for (let job = 0; job < 8; job++) {
      fill();
      nowMs += 500;
      queue.take(1);
    }
    fill();
    expect(() => queue.push(makeJob())).toThrow(expect.objectContaining({ retryAfterSeconds: 5 }));
    nowMs += 60_000;
    expect(() => queue.push(makeJob())).toThrow(expect.objectContaining({ retryAfterSeconds: 1 }));
  });

  it('does not take a job that was cancelled before', () => {
    const queue = makeQueue();
    const job = makeJob();
    job.cancel(clientLeft());
    queue.push(job);
    expect(queue.length).toBe(0);
  });

  it('ends a job that waited too long, and says how long that was', async () => {
    const queue = makeQueue();
    const job = makeJob();
    queue.push(job);
    vi.advanceTimersByTime(4999);
    expect(queue.length).toBe(1);
    vi.advanceTimersByTime(1);
    expect(queue.length).toBe(0);
    const { error } = await readAll(job.stream);
    expect(error).toMatchObject({ code: 'REQUEST_TIMEOUT', message: expect.stringContaining('5 s') });
  });

  it('has no say over a job that was taken', () => {
    const queue = makeQueue();
    const job = makeJob();
    queue.push(job);
    queue.take(1);
    vi.advanceTimersByTime(10_000);
    expect(job.cancelled).toBe(false);
    job.cancel(clientLeft());
    expect(queue.length).toBe(0);
  });

  it('fails all that wait with one error', async () => {
    const queue = makeQueue();
    const jobs = [makeJob(), makeJob()];
    for (const job of jobs) queue.push(job);
    queue.failAll(new ServingError('MODEL_NOT_READY', 'Model is not ready: toy'));
    for (const job of jobs)
      expect((await readAll(job.stream)).error).toMatchObject({ code: 'MODEL_NOT_READY' });
    expect(queue.length).toBe(0);
  });

  it('refuses at once what could not start in time at the rate at which jobs start, and says when to come back', () => {
    let nowMs = 0;
    vi.useFakeTimers();
    const queue = new JobQueue('toy', 100, 20_000, () => nowMs);
    // One job each second: 19 ahead are 19 s or so, 25 are too many.
    for (let second = 0; second < 15; second++) {
      queue.push(makeJob({ queuedAtMs: nowMs }));
      queue.take(1);
      nowMs += 1000;
    }
    for (let ahead = 0; ahead < 20; ahead++) queue.push(makeJob({ queuedAtMs: nowMs }));
    const late = () => queue.push(makeJob({ queuedAtMs: nowMs }));
    expect(() => {
      for (let more = 0; more < 9; more++) late();
    }).toThrow(/would wait some 2\d s .* it may wait 20 s \(option.predict_timeout/);
    expect(late).toThrow(expect.objectContaining({ code: 'QUEUE_FULL', retryAfterSeconds: 1 }));
    // Who is served before them has no wait to fear; who has a limit of its own is refused by that.
    queue.push(makeJob({ queuedAtMs: nowMs, request: makeRequest({ priority: -1 }) }));
    expect(() =>
      queue.push(makeJob({ queuedAtMs: nowMs, request: makeRequest({ timeoutMs: 5000 }) })),
    ).toThrow(/may wait 5 s/);
    vi.useRealTimers();
  });

  it('tells its listeners of each push until they leave', () => {
    const queue = makeQueue();
    let pushes = 0;
    const leave = queue.onPush(() => pushes++);
    queue.push(makeJob());
    queue.push(makeJob());
    leave();
    queue.push(makeJob());
    expect(pushes).toBe(2);
  });
});

describe('a job', () => {
  it('is cancelled when its reader leaves early', async () => {
    const job = makeJob();
    job.stream.push({ kind: 'token', tokenId: 1, text: '', special: false, logprob: 0, topLogprobs: [] });
    for await (const _ of job.stream) break;
    expect(job.signal.reason).toMatchObject({ code: 'CANCELLED' });
    await job.ended;
  });

  it('that has ended is not cancelled any more', async () => {
    const job = makeJob();
    job.stream.end();
    job.cancel(clientLeft());
    expect(job.cancelled).toBe(false);
    await job.ended;
  });
});
