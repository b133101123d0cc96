/** A pool of several groups, over fake workers: they rise with a backlog, fall when idle, share the queue, and die alone. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { ModelConfig } from '../../../server/config/config.js';
import { usableCores } from '../../../server/machine/machine-limits.js';
import { MemoryLedger } from '../../../server/machine/memory-ledger.js';
import type { Generation } from '../../../server/requests/service.js';
import { WorkLoadManager } from '../../../server/work-load-manager/work-load-manager.js';
import { readAll, tokenIdsOf } from '../../fixtures/generate-requests.js';
import { type LogLine, LogRecorder } from '../../fixtures/log-recorder.js';
import {
  FAKE_CONFIG,
  type FakeManager,
  fakeEngine,
  fakeStore,
  makeFakeManager,
  ONE_RANK_MANIFEST,
  promptIds,
  submitTo,
} from '../../support/fake-model.js';
import { fakeTokens } from '../../support/fake-rank.js';
import type { FakeWorkerPlan } from '../../support/fake-worker.js';

const managers: WorkLoadManager[] = [];
afterEach(async () => {
  await Promise.all(managers.splice(0).map((manager) => manager.close()));
});

async function start(plan: FakeWorkerPlan = {}, config: Partial<ModelConfig> = {}, ledger?: MemoryLedger) {
  const made = makeFakeManager(plan, { manifest: ONE_RANK_MANIFEST, ...(ledger && { ledger }) });
  managers.push(made.manager);
  await made.manager.load({ ...FAKE_CONFIG, tensorParallelDegree: 1, ...config });
  return made;
}

const pool = (manager: WorkLoadManager) => manager.describe('toy', null)[0]!;
const pidsOf = (manager: WorkLoadManager) => pool(manager).groups.map((group) => group.ranks[0]!.pid!);
const goOn = (manager: WorkLoadManager) => {
  for (const pid of pidsOf(manager)) if (pid !== null) process.kill(pid, 'SIGUSR2');
};

/** Resolves when so many groups run, after line `from`. */
const runningIs = ({ log }: FakeManager, running: number, from = 0): Promise<LogLine> =>
  log.find(
    (line) =>
      log.lines.indexOf(line) >= from && line.msg === 'worker groups running' && line.running === running,
  );

/** The line of the `count`th rank that paused. */
const paused = ({ log }: FakeManager, count: number): Promise<LogLine> =>
  log.find((line) => log.lines.filter(({ msg }) => msg.startsWith('paused'))[count - 1] === line);

async function expectAnswers(generations: readonly Generation[], ids: readonly number[], length: number) {
  const results = await Promise.all(generations.map((generation) => readAll(generation.events)));
  results.forEach(({ error, events }, index) => {
    expect(error).toBeNull();
    expect(tokenIdsOf(events)).toEqual(fakeTokens([ids[index]!], length));
  });
}

describe('a pool of one to three groups', () => {
  it('rises one by one while jobs wait, spreads them, and falls to one when all is idle', async () => {
    const made = await start({ pauseAtStep: 3 }, { maxGroups: 3, maxIdleSeconds: 1, maxRollingBatchSize: 2 });
    const { log, manager } = made;
    const ids: number[] = [];
    const generations: Generation[] = [];
    const submit = async () => {
      ids.push(10 + ids.length);
      generations.push(await submitTo(manager, { ...promptIds(ids.at(-1)!), maxNewTokens: 9 }));
    };
    await submit();
    await submit();
    await paused(made, 1);
    // Two run; two that wait are no reason for another group, three are.
    await submit();
    await submit();
    expect(log.lines.filter((line) => line.msg === 'worker group starts')).toHaveLength(1);
    await submit();
    await runningIs(made, 2);
    await paused(made, 2);
    expect(pool(manager)).toMatchObject({ requestsInQueue: 1, groups: [{ id: 1 }, { id: 2 }] });
    await submit();
    await submit();
    await runningIs(made, 3);
    await paused(made, 3);
    expect(pool(manager)).toMatchObject({ requestsInQueue: 1, healthy: true });
    goOn(manager);
    await expectAnswers(generations, ids, 9);
    await runningIs(made, 1, log.lines.indexOf(await runningIs(made, 3)));
    const stops = log.lines.filter((line) => line.msg === 'worker group stops');
    expect(stops.map(({ why }) => why)).toEqual(['idle', 'idle']);
    expect(pool(manager)).toMatchObject({ minGroups: 1, maxGroups: 3 });
    // What is left still serves.
    const last = await submitTo(manager, { ...promptIds(5), maxNewTokens: 2 });
    await expectAnswers([last], [5], 2);
  });

  // Again where the machine held a job for 250 ms: such a one is anybody's.
  it('gives jobs to the group that runs fewest', { retry: 2 }, async () => {
    const made = await start({ pauseAtStep: 2 }, { minGroups: 3, maxGroups: 3, maxRollingBatchSize: 8 });
    const { log, manager } = made;
    const ids = [1, 2, 3, 4, 5, 6];
    const generations = [];
    for (const id of ids) generations.push(await submitTo(manager, { ...promptIds(id), maxNewTokens: 5 }));
    await paused(made, 3);
    goOn(manager);
    await expectAnswers(generations, ids, 5);
    const taken = log.lines.filter((line) => line.msg === 'slot taken').map((line) => line.groupId);
    for (const group of [1, 2, 3]) expect(taken.filter((id) => id === group)).toHaveLength(2);
  });

  it('loses a group without an error on the others, and what waits is served by them', async () => {
    const made = await start({ pauseAtStep: 2 }, { minGroups: 2, maxGroups: 2, maxRollingBatchSize: 1 });
    const { log, manager } = made;
    const generations = [];
    for (const id of [1, 2, 3])
      generations.push(await submitTo(manager, { ...promptIds(id), maxNewTokens: 5 }));
    await paused(made, 2);
    const [first] = pidsOf(manager);
    process.kill(first!, 'SIGKILL');
    expect((await readAll(generations[0]!.events)).error).toMatchObject({ code: 'WORKER_FAILED' });
    await log.find((line) => line.msg === 'worker group died');
    // The new one has taken what waited.
    await paused(made, 3);
    goOn(manager);
    await expectAnswers(generations.slice(1), [2, 3], 5);
  });

  it('does not start a group again that dies while it ends its last jobs', async () => {
    const made = await start({ pauseAtStep: 2 }, { minGroups: 2, maxGroups: 2, retryThreshold: 0 });
    const { log, manager } = made;
    const generations = [];
    for (const id of [1, 2]) generations.push(await submitTo(manager, { ...promptIds(id), maxNewTokens: 5 }));
    await paused(made, 2);
    const [, newest] = pidsOf(manager);
    await manager.scale('toy', null, { maxGroups: 1 });
    expect(pool(manager).groups).toMatchObject([{ state: 'running' }, { state: 'stopping' }]);
    process.kill(newest!, 'SIGKILL');
    expect((await readAll(generations[1]!.events)).error).toMatchObject({ code: 'WORKER_FAILED' });
    await log.find((line) => line.msg === 'worker group stopped');
    expect(pool(manager)).toMatchObject({ state: 'READY', groups: [{ id: 1, state: 'running' }] });
    goOn(manager);
    await expectAnswers(generations.slice(0, 1), [1], 5);
  });

  it('counts the deaths of all its groups, and says in describe why it has failed', async () => {
    const { log, manager } = await start({}, { minGroups: 2, maxGroups: 2, retryThreshold: 1 });
    const [one, other] = pidsOf(manager);
    process.kill(one!, 'SIGKILL');
    await log.find((line) => line.msg === 'worker group died');
    process.kill(other!, 'SIGKILL');
    await log.find((line) => line.msg === 'worker group failed');
    expect(pool(manager)).toMatchObject({
      state: 'FAILED',
      healthy: false,
      failure: {
        code: 'WORKER_FAILED',
        message: expect.stringMatching(
          /^2 deaths .* in 10 minutes, retry_threshold is 1; .*killed by SIGKILL/,
        ),
      },
    });
    await expect(submitTo(manager)).rejects.toMatchObject({ code: 'MODEL_NOT_READY' });
    await manager.unregister('toy', null);
    await manager.load({ ...FAKE_CONFIG, tensorParallelDegree: 1 });
    expect(pool(manager)).toMatchObject({ state: 'READY', failure: null });
  });
});

describe('a group that hangs while it is idle', () => {
  it('is no longer called healthy, is found in seconds, and is replaced', async () => {
    const made = await start();
    expect(pool(made.manager).healthy).toBe(true);
    const from = made.log.lines.length;
    const [hung] = pidsOf(made.manager);
    process.kill(hung!, 'SIGSTOP');
    const looks: boolean[] = [];
    const looking = setInterval(() => looks.push(pool(made.manager).healthy), 50);
    const died = await made.log.find((line) => line.msg === 'worker group died');
    clearInterval(looking);
    expect(died.err).toMatchObject({ message: expect.stringMatching(/^rank 0 hangs/) });
    // Before it died, too.
    expect(looks.filter((healthy) => !healthy).length).toBeGreaterThan(10);
    await runningIs(made, 1, from);
    expect(pool(made.manager).healthy).toBe(true);
    expect(pidsOf(made.manager)).not.toContain(hung);
  });
});

describe('requests whose group dies', () => {
  const RESUMED = { requestRetries: 2, retryThreshold: 10 };

  it('go on where they were in its next life: none is lost, no token comes twice', async () => {
    const made = await start({ pauseAtStep: 4 }, RESUMED);
    const generations: Generation[] = [];
    // Two run, one waits.
    for (const id of [1, 2, 3])
      generations.push(await submitTo(made.manager, { ...promptIds(id), maxNewTokens: 12 }));
    await paused(made, 1);
    process.kill(pidsOf(made.manager)[0]!, 'SIGKILL');
    await paused(made, 2);
    goOn(made.manager);
    await expectAnswers(generations, [1, 2, 3], 12);
    expect(made.freed.filter(({ why }) => why === 'lost')).toHaveLength(2);
    expect(made.freed.filter(({ why }) => why === 'finished')).toHaveLength(3);
  });

  it('go on in another group that runs', async () => {
    const made = await start({ pauseAtStep: 3 }, { ...RESUMED, minGroups: 2, maxGroups: 2 });
    const generation = await submitTo(made.manager, { ...promptIds(7), maxNewTokens: 9 });
    const { groupId } = await paused(made, 1);
    const [one, other] = pidsOf(made.manager);
    process.kill(groupId === 1 ? one! : other!, 'SIGKILL');
    await paused(made, 2);
    goOn(made.manager);
    await expectAnswers([generation], [7], 9);
  });

  it('end with an error after too many deaths, and what waits behind them is served', async () => {
    // Deaths of which a request is found guilty are not the model's.
    const more = { ...RESUMED, retryThreshold: 2 };
    const { manager } = await start({ atStep: { step: 2, what: 'exit' } }, more);
    // Two steps: every group dies of it. One: none does.
    const poison = await submitTo(manager, { ...promptIds(1), maxNewTokens: 5 });
    const { error, events } = await readAll(poison.events);
    expect(error).toMatchObject({
      code: 'WORKER_FAILED',
      message: expect.stringMatching(/ran in 3 worker groups that died, .*option\.request_retries/),
    });
    // What each life told, if it got to tell it.
    const told = tokenIdsOf(events);
    expect(told).toEqual(fakeTokens([1], 3).slice(0, told.length));
    await expectAnswers([await submitTo(manager, { ...promptIds(9), maxNewTokens: 1 })], [9], 1);
    expect(pool(manager)).toMatchObject({ state: 'READY', failure: null });
  }, 30_000);
});

describe('many registrations at once', () => {
  it('load two at a time, in their order, and all get ready', async () => {
    let loading = 0;
    let most = 0;
    const order: string[] = [];
    const engine = fakeEngine(ONE_RANK_MANIFEST);
    const log = new LogRecorder();
    const manager = new WorkLoadManager({
      engineOf: () => ({
        prepare: async (config, options) => {
          order.push(config.name);
          most = Math.max(most, ++loading);
          await new Promise((resolve) => setImmediate(resolve));
          const model = await engine.prepare(config, options);
          loading--;
          return model;
        },
      }),
      registration: fakeStore({ ...FAKE_CONFIG, tensorParallelDegree: 1, minGroups: 0, maxGroups: 1 }),
      logger: log.logger,
    });
    managers.push(manager);
    const names = Array.from({ length: 12 }, (_, index) => `m${index}`);
    const registered = await Promise.all(
      names.map((name) => manager.register({ url: `file:///${name}`, version: null })),
    );
    expect(manager.list().map(({ state }) => state)).toContain('PENDING');
    await Promise.all(registered.map(({ ready }) => ready));
    expect(manager.list().map(({ state }) => state)).toEqual(names.map(() => 'READY'));
    expect([most, order]).toEqual([2, names]);
  });
});

describe('a model that has failed', () => {
  const DEAD = { retryThreshold: 0 };

  it('is tried again after its cool-down, and serves', async () => {
    const { log, manager } = await start({}, { ...DEAD, retryCoolDownSeconds: 0.1 });
    process.kill(pidsOf(manager)[0]!, 'SIGKILL');
    await log.find((line) => line.msg === 'worker group failed');
    expect(pool(manager)).toMatchObject({ state: 'FAILED', nextTryAtMs: expect.any(Number) });
    await log.find((line) => line.msg === 'model toy serves again');
    expect(pool(manager)).toMatchObject({ state: 'READY', healthy: true, failure: null, nextTryAtMs: null });
    await expectAnswers([await submitTo(manager, { ...promptIds(1), maxNewTokens: 5 })], [1], 5);
  });

  it('is tried again by a call; one that fails again says why and stays FAILED', async () => {
    const failsWhile = path.join(mkdtempSync(path.join(tmpdir(), 'shardserve-fails-')), 'fails');
    const { log, manager } = await start({ failsWhile }, DEAD);
    writeFileSync(failsWhile, '');
    process.kill(pidsOf(manager)[0]!, 'SIGKILL');
    await log.find((line) => line.msg === 'worker group failed');
    expect(pool(manager)).toMatchObject({ state: 'FAILED', nextTryAtMs: null });
    await expect(manager.retry('toy', null)).rejects.toMatchObject({ message: 'rank 0: read error' });
    expect(pool(manager)).toMatchObject({ state: 'FAILED', failure: { message: 'rank 0: read error' } });
    rmSync(path.dirname(failsWhile), { recursive: true });
    await Promise.all([manager.retry('toy', null), manager.retry('toy', null)]);
    expect(pool(manager)).toMatchObject({ state: 'READY', groups: [{ state: 'running' }] });
    await expectAnswers([await submitTo(manager, { ...promptIds(1), maxNewTokens: 5 })], [1], 5);
    await manager.retry('toy', null);
    await expect(manager.retry('other', null)).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' });
  });

  it('that did not load at start is loaded again', async () => {
    const failsWhile = path.join(mkdtempSync(path.join(tmpdir(), 'shardserve-fails-')), 'fails');
    writeFileSync(failsWhile, '');
    const made = makeFakeManager({ failsWhile }, { manifest: ONE_RANK_MANIFEST });
    managers.push(made.manager);
    const loading = made.manager.load({ ...FAKE_CONFIG, tensorParallelDegree: 1, retryCoolDownSeconds: 0.1 });
    await expect(loading).rejects.toMatchObject({ message: 'rank 0: read error' });
    expect(pool(made.manager)).toMatchObject({ state: 'FAILED', nextTryAtMs: expect.any(Number) });
    rmSync(path.dirname(failsWhile), { recursive: true });
    await made.log.find((line) => line.msg === 'model toy is ready');
    expect(pool(made.manager)).toMatchObject({ state: 'READY', failure: null, nextTryAtMs: null });
    await expectAnswers([await submitTo(made.manager, { ...promptIds(1), maxNewTokens: 5 })], [1], 5);
  });
});

describe('a pool without workers', () => {
  it('refuses in the words of DJLServing after it was scaled to none, and serves again when scaled up', async () => {
    const made = await start();
    const { manager } = made;
    expect(await manager.scale('toy', null, { minGroups: 0, maxGroups: 0 })).toEqual([
      { name: 'toy', version: null, minGroups: 0, maxGroups: 0 },
    ]);
    await expect(submitTo(manager)).rejects.toMatchObject({
      code: 'NO_WORKERS',
      message: 'All model workers has been shutdown: toy',
    });
    await runningIs(made, 0);
    expect(manager.models()).toMatchObject([{ state: 'READY', healthy: true }]);
    await manager.scale('toy', null, { minGroups: 1, maxGroups: 1 });
    const again = await submitTo(manager, { ...promptIds(6), maxNewTokens: 2 });
    await expectAnswers([again], [6], 2);
  });

  it('starts one for a request where scale_from_zero says so, or where only the least is zero', async () => {
    for (const config of [{ maxGroups: 0, scaleFromZero: true }, { maxGroups: 1 }]) {
      const made = await start({}, { minGroups: 0, maxIdleSeconds: 1, ...config });
      expect(pool(made.manager).groups).toEqual([]);
      const generation = await submitTo(made.manager, { ...promptIds(6), maxNewTokens: 2 });
      await expectAnswers([generation], [6], 2);
      await runningIs(made, 0);
      await made.manager.unregister('toy', null);
    }
  });
});

describe('cores', () => {
  const told = ({ log }: FakeManager) =>
    log.lines.filter(({ msg }) => msg === 'worker groups use more threads than there are cores');

  it('that two models want together are told once, and shown by both while both are there', async () => {
    const threadsPerRank = usableCores();
    const made = await start({}, { threadsPerRank });
    const { manager } = made;
    expect([told(made), pool(manager).coresOversubscribed]).toEqual([[], false]);
    await manager.load({ ...FAKE_CONFIG, name: 'second', tensorParallelDegree: 1, threadsPerRank });
    expect(manager.list().map((one) => one.coresOversubscribed)).toEqual([true, true]);
    expect(told(made)).toMatchObject([
      { model: 'second', groups: 1, threadsPerRank, otherModelsThreads: threadsPerRank },
    ]);
    await manager.unregister('second', null);
    expect(pool(manager).coresOversubscribed).toBe(false);
  });
});

describe('memory', () => {
  it('that is not there for a second group is no reason to fail: the first serves', async () => {
    let freeBytes = Number.MAX_SAFE_INTEGER;
    const made = await start(
      { pauseAtStep: 1 },
      { maxGroups: 2, maxRollingBatchSize: 1 },
      new MemoryLedger(() => freeBytes),
    );
    const { log, manager } = made;
    freeBytes = 0;
    const generations = [];
    for (const id of [1, 2, 3, 4, 5])
      generations.push(await submitTo(manager, { ...promptIds(id), maxNewTokens: 2 }));
    await log.find((line) =>
      line.msg.startsWith('No enough memory to load the model. A worker group of toy needs'),
    );
    await expect(manager.scale('toy', null, { minGroups: 2, maxGroups: 2 })).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
    });
    expect(pool(manager)).toMatchObject({ minGroups: 1, maxGroups: 2 });
    goOn(manager);
    await expectAnswers(generations, [1, 2, 3, 4, 5], 2);
  });

  it('of two models is counted together: the second is refused before a worker starts', async () => {
    const ledger = new MemoryLedger(
      () => 199 * 2 ** 20,
      () => 0,
    );
    const { log, manager } = await start({}, { requiredMemoryMb: 100 }, ledger);
    const lines = log.lines.length;
    await expect(
      manager.load({ ...FAKE_CONFIG, name: 'second', requiredMemoryMb: 100 }),
    ).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
      message: expect.stringMatching(/second needs 100 MiB .* but 99 MiB are free/),
    });
    expect(log.lines.slice(lines).filter((line) => line.rank !== undefined)).toEqual([]);
    // What the first gives back is enough.
    await manager.unregister('toy', null);
    await manager.unregister('second', null);
    await manager.load({ ...FAKE_CONFIG, name: 'second', requiredMemoryMb: 100 });
  });
});

describe('priorities and deadlines', () => {
  it('a lower number is served first, the oldest first among equals', async () => {
    const made = await start({ pauseAtStep: 1 }, { maxRollingBatchSize: 1 });
    const { log, manager } = made;
    const priorities = [3, 3, 5, 1, 3];
    const generations = [];
    for (const [index, priority] of priorities.entries())
      generations.push(
        await submitTo(manager, {
          ...promptIds(index + 1),
          requestId: `r${index}`,
          maxNewTokens: 1,
          priority,
        }),
      );
    await paused(made, 1);
    goOn(manager);
    await expectAnswers(generations, [1, 2, 3, 4, 5], 1);
    const order = log.lines.filter((line) => line.msg === 'slot taken').map((line) => line.requestId);
    expect(order).toEqual(['r0', 'r3', 'r1', 'r4', 'r2']);
  });

  it('no request lives longer than option.request_timeout, whatever it asks for', async () => {
    const { manager } = await start({ pauseAtStep: 2 }, { requestTimeoutSeconds: 0.2 });
    for (const timeoutMs of [undefined, 1_000_000]) {
      const limit = timeoutMs === undefined ? {} : { timeoutMs };
      const { events } = await submitTo(manager, { ...promptIds(1), maxNewTokens: 5, ...limit });
      expect((await readAll(events)).error).toMatchObject({
        code: 'REQUEST_TIMEOUT',
        message: 'The request was not done after 200 ms (x-request-timeout-ms, or option.request_timeout)',
      });
    }
  });

  it('a job past its deadline never runs; one that runs is ended by it', async () => {
    const made = await start({ pauseAtStep: 2 }, { maxRollingBatchSize: 1 });
    const { log, manager } = made;
    const running = await submitTo(manager, { requestId: 'running', maxNewTokens: 100, timeoutMs: 150 });
    const waiting = await submitTo(manager, { requestId: 'waiting', timeoutMs: 100 });
    for (const [generation, limit] of [
      [waiting, '100 ms'],
      [running, '150 ms'],
    ] as const) {
      const { error } = await readAll(generation.events);
      expect(error).toMatchObject({ code: 'REQUEST_TIMEOUT', message: expect.stringContaining(limit) });
    }
    goOn(manager);
    await log.find((line) => line.msg === 'slot freed' && line.requestId === 'running');
    expect(log.lines.filter((line) => line.msg === 'slot taken').map((line) => line.requestId)).toEqual([
      'running',
    ]);
  });
});

describe('a queue of one place', () => {
  it('refuses the second of two requests that come at once, as DJLServing does, and takes the next', async () => {
    const dynamic = { batching: 'dynamic', batchSize: 1, maxBatchDelayMs: 0, jobQueueSize: 1 } as const;
    const made = await start({ pauseAtStep: 1 }, dynamic);
    const { manager } = made;
    const first = await submitTo(manager, { ...promptIds(1), maxNewTokens: 2 });
    await expect(submitTo(manager)).rejects.toMatchObject({ code: 'QUEUE_FULL', retryAfterSeconds: 1 });
    await paused(made, 1);
    await expect(submitTo(manager)).rejects.toMatchObject({ code: 'QUEUE_FULL' });
    goOn(manager);
    await expectAnswers([first], [1], 2);
    await made.log.find((line) => line.msg === 'slot freed');
    await expectAnswers([await submitTo(manager, { ...promptIds(2), maxNewTokens: 2 })], [2], 2);
  });
});
