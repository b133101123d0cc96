/** The work load manager over groups that die: every request gets an answer, the group comes back, or the model is FAILED. */
import { afterEach, describe, expect, it } from 'vitest';
import type { ModelConfig } from '../../../server/config/config.js';
import type { WorkLoadManager } from '../../../server/work-load-manager/work-load-manager.js';
import { readAll, tokenIdsOf } from '../../fixtures/generate-requests.js';
import type { LogRecorder } from '../../fixtures/log-recorder.js';
import {
  FAKE_CONFIG as CONFIG,
  promptIds as ids,
  makeFakeManager,
  submitTo as submit,
} from '../../support/fake-model.js';
import { FAKE_VOCAB, fakeTokens } from '../../support/fake-rank.js';
import type { FakeWorkerPlan } from '../../support/fake-worker.js';

const managers: WorkLoadManager[] = [];
afterEach(async () => {
  await Promise.all(managers.splice(0).map((manager) => manager.close()));
});

function makeManager(plan: FakeWorkerPlan) {
  const made = makeFakeManager(plan);
  managers.push(made.manager);
  return made;
}

async function start(plan: FakeWorkerPlan = {}, config: Partial<ModelConfig> = {}) {
  const made = makeManager(plan);
  await made.manager.load({ ...CONFIG, ...config });
  return made;
}

describe('a worker that dies', () => {
  it('ends the requests that run, keeps those that wait, and they are answered after the restart', async () => {
    const { log, manager } = await start({ rank: 1, atStep: { step: 5, what: 'kill' }, pauseAtStep: 5 });
    const generations = [];
    for (const id of [10, 20, 30])
      generations.push(await submit(manager, { ...ids(id), maxNewTokens: 4 + id }));
    const results = await Promise.all(generations.map((generation) => readAll(generation.events)));
    for (const { error, events } of results.slice(0, 2)) {
      expect(error).toMatchObject({ code: 'WORKER_FAILED', message: 'rank 1 was killed by SIGKILL' });
      expect(tokenIdsOf(events).length).toBeGreaterThan(0);
    }
    // The third started on the second group, which died at its fifth step as well.
    expect(results[2]!.error).toMatchObject({ code: 'WORKER_FAILED' });
    const again = await submit(manager, { ...ids(40), maxNewTokens: 3 });
    expect(tokenIdsOf((await readAll(again.events)).events)).toEqual(fakeTokens([40], 3));
    const deaths = log.lines.filter((line) => line.msg === 'worker group died');
    expect(deaths.map((line) => line.deaths)).toEqual([1, 2]);
    expect(manager.models()).toMatchObject([{ state: 'READY', healthy: true }]);
  });

  it('too often makes the model FAILED: what waits is answered, and nothing new is taken', async () => {
    const { log, manager } = await start({ atStep: { step: 1, what: 'exit' } }, { retryThreshold: 1 });
    const generations = [];
    for (const id of [1, 2, 3, 4, 5]) generations.push(await submit(manager, ids(id)));
    const results = await Promise.all(generations.map((generation) => readAll(generation.events)));
    const codes = results.map((result) => (result.error as { code: string }).code);
    expect(new Set(codes)).toEqual(new Set(['WORKER_FAILED', 'MODEL_NOT_READY']));
    expect([codes[0], codes[4]]).toEqual(['WORKER_FAILED', 'MODEL_NOT_READY']);
    await log.find((line) => line.msg === 'worker group failed' && line.deaths === 2);
    expect(manager.models()).toMatchObject([{ state: 'FAILED', healthy: false }]);
    await expect(submit(manager)).rejects.toMatchObject({
      code: 'MODEL_NOT_READY',
      message: 'Model is not ready: toy',
    });
  });

  it('while nothing runs is replaced too', async () => {
    const { log, manager } = await start();
    const first = log.lines.length;
    const { pid } = (await findPids(log, 0))[0]!;
    process.kill(pid, 'SIGKILL');
    await log.find((line) => line.msg === 'worker group died');
    const generation = await submit(manager, { ...ids(7), maxNewTokens: 2 });
    expect(tokenIdsOf((await readAll(generation.events)).events)).toEqual(fakeTokens([7], 2));
    expect((await findPids(log, first)).map((found) => found.pid)).not.toContain(pid);
  });
});

/** Pids as the coordinator logs them, from that line on. */
async function findPids(log: LogRecorder, from: number): Promise<{ rank: number; pid: number }[]> {
  const isReady = (line: { msg: string }): boolean => line.msg === 'shard worker ready';
  await log.find((line) => log.lines.indexOf(line) >= from && isReady(line) && line.rank === 1);
  return log.lines
    .slice(from)
    .filter(isReady)
    .map((line) => ({ rank: Number(line.rank), pid: Number(line.workerPid) }));
}

describe('a model that cannot be loaded', () => {
  it('is registered as FAILED, with the reason for the caller', async () => {
    const { manager } = makeManager({ rank: 1, onLoad: 'failure' });
    await expect(manager.load(CONFIG)).rejects.toMatchObject({ code: 'SHARDS_INVALID' });
    expect(manager.models()).toMatchObject([{ name: 'toy', state: 'FAILED' }]);
    await expect(submit(manager)).rejects.toMatchObject({ code: 'MODEL_NOT_READY' });
  });

  it('is refused before any worker starts when its KV memory is too small', async () => {
    const { log, manager } = makeManager({});
    await expect(manager.load({ ...CONFIG, kvCacheMemoryMb: 0 })).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
    });
    expect(log.lines.filter((line) => line.rank !== undefined)).toEqual([]);
  });
});

describe('the work load manager', () => {
  it('refuses what no worker shall see', async () => {
    const { manager } = await start();
    await expect(submit(manager, { model: 'other' })).rejects.toMatchObject({
      code: 'MODEL_NOT_FOUND',
      message: 'Model or workflow not found: other',
    });
    await expect(submit(manager, { version: '2' })).rejects.toMatchObject({
      message: 'Model or workflow not found: toy/2',
    });
    await expect(submit(manager, ids())).rejects.toMatchObject({ code: 'BAD_REQUEST' });
    await expect(submit(manager, { maxNewTokens: 998 })).rejects.toMatchObject({ code: 'PROMPT_TOO_LONG' });
    await expect(submit(manager, { stopTokenIds: [FAKE_VOCAB] })).rejects.toMatchObject({
      code: 'BAD_REQUEST',
    });
    await expect(submit(manager, {}, AbortSignal.abort())).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  it('ends a request whose client leaves, while queued and while it runs, and frees the slot', async () => {
    const { freed, log, manager } = await start({ pauseAtStep: 3 }, { maxRollingBatchSize: 1 });
    const [running, queued] = [new AbortController(), new AbortController()];
    const first = await submit(manager, { ...ids(1), maxNewTokens: 500 }, running.signal);
    const second = await submit(manager, { ...ids(2), maxNewTokens: 500 }, queued.signal);
    await log.find((line) => line.msg === 'paused at step 3' && line.rank === 0);
    queued.abort();
    expect((await readAll(second.events)).error).toMatchObject({ code: 'CANCELLED' });
    running.abort();
    expect((await readAll(first.events)).error).toMatchObject({ code: 'CANCELLED' });
    for (const { pid } of await findPids(log, 0)) process.kill(pid, 'SIGUSR2');
    await log.find((line) => line.msg === 'slot freed' && line.why === 'cancelled');
    expect(freed).toHaveLength(1);
    const third = await submit(manager, { ...ids(3), maxNewTokens: 2 });
    expect(tokenIdsOf((await readAll(third.events)).events)).toEqual(fakeTokens([3], 2));
  });

  it('fills its queue and no more', async () => {
    const { log, manager } = await start({ pauseAtStep: 1 }, { maxRollingBatchSize: 1, jobQueueSize: 2 });
    await submit(manager);
    await log.find((line) => line.msg === 'paused at step 1');
    // As in DJLServing: the last place stays empty while every worker is busy.
    await submit(manager);
    await expect(submit(manager)).rejects.toMatchObject({
      code: 'QUEUE_FULL',
      message: 'Worker queue capacity exceeded for model: toy',
      retryAfterSeconds: 1,
    });
  });

  it('batches dynamically when told to', async () => {
    const { manager } = await start({}, { batching: 'dynamic', batchSize: 3, maxBatchDelayMs: 5 });
    const generations = [];
    for (const id of [1, 2, 3, 4]) generations.push(await submit(manager, { ...ids(id), maxNewTokens: id }));
    for (const [index, generation] of generations.entries()) {
      const { events } = await readAll(generation.events);
      expect(tokenIdsOf(events)).toEqual(fakeTokens([index + 1], index + 1));
    }
  });

  it('answers what it has taken before it is drained, and takes nothing more', async () => {
    const { manager } = await start();
    const generation = await submit(manager, { ...ids(5), maxNewTokens: 50 });
    const reading = readAll(generation.events);
    await manager.drain(20_000);
    expect(tokenIdsOf((await reading).events)).toEqual(fakeTokens([5], 50));
    await expect(submit(manager)).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
  });

  it('ends what does not end in time', async () => {
    const { manager } = await start({ pauseAtStep: 2, stubborn: true });
    const generation = await submit(manager, { maxNewTokens: 50 });
    await manager.drain(1);
    const reading = readAll(generation.events);
    await manager.close();
    expect((await reading).error).toMatchObject({ code: 'SHUTTING_DOWN' });
  });
});
