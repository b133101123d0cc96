/** Models that come and go while the manager runs, over fake workers and a fake model store. */
import { afterEach, describe, expect, it } from 'vitest';
import { ServingError } from '../../../proto/errors.js';
import type { ModelConfig } from '../../../server/config/config.js';
import { groupSizes } from '../../../server/engines/llm/group-sizes.js';
import { MemoryLedger } from '../../../server/machine/memory-ledger.js';
import { MIB } from '../../../server/machine/memory-need.js';
import type { RegisterRequest } from '../../../server/requests/management.js';
import type { WorkLoadManager } from '../../../server/work-load-manager/work-load-manager.js';
import { readAll, tokenIdsOf } from '../../fixtures/generate-requests.js';
import {
  fakeEngine,
  fakeStore,
  makeFakeManager,
  ONE_RANK_MANIFEST,
  promptIds,
  submitTo,
} from '../../support/fake-model.js';
import { fakeTokens } from '../../support/fake-rank.js';
import type { FakeWorkerPlan } from '../../support/fake-worker.js';
import { allGone } from '../../support/server-process.js';

const managers: WorkLoadManager[] = [];
afterEach(async () => {
  await Promise.all(managers.splice(0).map((manager) => manager.close()));
});

function make(plan: FakeWorkerPlan = {}, config: Partial<ModelConfig> = {}) {
  const store = fakeStore({ tensorParallelDegree: 1, ...config });
  const made = makeFakeManager(plan, {
    manifest: ONE_RANK_MANIFEST,
    registration: store,
    drainTimeoutMs: 20_000,
  });
  managers.push(made.manager);
  return { ...made, store };
}

const request = (fields: Partial<RegisterRequest> = {}): RegisterRequest => ({
  url: 'file:///store/toy',
  version: null,
  ...fields,
});

async function register(manager: WorkLoadManager, fields: Partial<RegisterRequest> = {}) {
  const registration = await manager.register(request(fields));
  await registration.ready;
  return registration;
}

const expectAnswer = async (manager: WorkLoadManager, model: string, version: string | null = null) => {
  const generation = await submitTo(manager, { model, version, ...promptIds(7), maxNewTokens: 3 });
  expect(tokenIdsOf((await readAll(generation.events)).events)).toEqual(fakeTokens([7], 3));
};

describe('registering', () => {
  it('takes the name at once, tells how far it is, and serves when it is ready', async () => {
    const { log, manager } = make();
    const registration = await manager.register(request());
    expect(registration).toMatchObject({ name: 'toy', version: null });
    expect(manager.describe('toy', null)).toMatchObject([
      {
        state: 'PENDING',
        healthy: false,
        loading: { stage: 'partition' },
        queueSize: 10,
        groups: [],
        failure: null,
      },
    ]);
    await expect(submitTo(manager)).rejects.toMatchObject({ code: 'MODEL_NOT_READY' });
    await expect(manager.scale('toy', null, { minGroups: 1 })).rejects.toMatchObject({
      code: 'MODEL_NOT_READY',
      message: 'Model or workflow is not ready: toy',
    });
    await registration.ready;
    await log.find((line) => line.msg === 'shard worker ready');
    expect(manager.list()).toMatchObject([
      { state: 'READY', loading: null, loadedAtStartup: false, url: 'file:///store/toy', healthy: true },
    ]);
    await expectAnswer(manager, 'toy');
  });

  it('tells the URL without user, password and signature', async () => {
    const { manager } = make();
    await register(manager, { name: 'toy', url: 'https://user:CANARY@host/toy.zip?X-Amz-Signature=CANARY' });
    expect(manager.list()).toMatchObject([{ url: 'https://host/toy.zip' }]);
    expect(JSON.stringify([manager.list(), manager.describe('toy', null)])).not.toContain('CANARY');
  });

  it('passes what was asked on as keys, and refuses what is none', async () => {
    const { manager, store } = make();
    const seen: unknown[] = [];
    const configure = store.configure;
    store.configure = (registration, folder) => {
      seen.push(registration.arguments);
      if (registration.arguments.load_on_devices === 'gpu0')
        throw new ServingError('CONFIG_INVALID', 'only the CPU');
      return configure(registration, folder);
    };
    await register(manager, { jobQueueSize: 3, batchSize: 2, maxIdleSeconds: 9, minGroups: 1, maxGroups: 2 });
    expect(seen[1]).toEqual({
      ...{ job_queue_size: '3', batch_size: '2', max_idle_time: '9' },
      ...{ 'cpu.minWorkers': '1', 'cpu.maxWorkers': '2' },
    });
    for (const fields of [{ device: 'gpu0' }, { name: 'a/b' }, { version: '' }, { name: '' }]) {
      await expect(manager.register(request({ name: 'other', ...fields }))).rejects.toMatchObject({
        code: 'BAD_REQUEST',
      });
    }
    expect(manager.list()).toHaveLength(1);
  });

  it('refuses a name and version twice, also while the first still loads', async () => {
    const { manager } = make();
    const first = await manager.register(request());
    await expect(manager.register(request())).rejects.toMatchObject({
      code: 'ALREADY_REGISTERED',
      message: 'Workflow toy is already registered.',
    });
    await first.ready;
    await expect(manager.register(request())).rejects.toMatchObject({ code: 'ALREADY_REGISTERED' });
  });

  it('of a model that does not load leaves nothing: no name, no process, no download; other versions serve', async () => {
    const { log, manager, store } = make({ onLoad: 'failure' });
    const registration = await manager.register(request({ version: '2' }));
    await expect(registration.ready).rejects.toMatchObject({ code: 'SHARDS_INVALID' });
    expect(manager.list()).toEqual([]);
    expect(store.released).toEqual(store.fetched);
    expect(log.lines.filter((line) => line.msg === 'shard worker ready')).toEqual([]);
  });

  it('a failed version does not touch the one that serves', async () => {
    const { manager, store } = make();
    await register(manager, { version: '1' });
    store.fetch = async () => {
      throw new ServingError('MODEL_NOT_FOUND', 'There is no file or folder');
    };
    const second = await manager.register(request({ version: '2' }));
    await expectAnswer(manager, 'toy');
    await expect(second.ready).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' });
    expect(manager.list().map(({ version }) => version)).toEqual(['1']);
    await expectAnswer(manager, 'toy');
  });

  it('is given up when it is unregistered while it loads', async () => {
    const { log, manager, store } = make({ onLoad: 'hang' });
    const registration = await manager.register(request());
    await log.find((line) => line.msg.startsWith('rank 0 of 1'));
    await manager.unregister('toy', null);
    await expect(registration.ready).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
    expect(manager.list()).toEqual([]);
    expect(store.released).toEqual(['file:///store/toy']);
  });

  it('is refused for want of memory before the partitioner writes, and before any worker starts', async () => {
    const store = fakeStore();
    let wrote = false;
    const { log, manager } = makeFakeManager(
      {},
      {
        registration: store,
        ledger: new MemoryLedger(() => 600 * MIB),
        engineOf: () => ({
          prepare: async (config, { onNeed }) => {
            const sizes = {
              ...{ worldSize: 1, weightBytes: 700 * MIB, kvBytesPerToken: 1, activationBytesPerToken: 1 },
              contextLength: 100,
              textTokens: null,
            };
            onNeed((freeBytes) => groupSizes(config, sizes, freeBytes).need);
            wrote = true;
            throw new Error('the test ends here');
          },
        }),
      },
    );
    managers.push(manager);
    const registration = await manager.register(request());
    await expect(registration.ready).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
      message: expect.stringMatching(/needs \d+ MiB \(weights 700, .*600 MiB are free.*option\.dtype/),
    });
    expect(wrote).toBe(false);
    expect(log.lines.filter((line) => line.rank !== undefined)).toEqual([]);
  });

  it('a prompt that is tokenised when its model goes gets an answer', async () => {
    let release = (): void => {};
    const { manager } = makeFakeManager(
      {},
      {
        engineOf: () =>
          fakeEngine(ONE_RANK_MANIFEST, {
            encode: () =>
              new Promise((resolve) => {
                release = () => resolve([1, 2]);
              }),
            close: async () => {},
          }),
      },
    );
    managers.push(manager);
    await manager.load(fakeStore().configure({ ...request(), name: 'toy', where: '', arguments: {} }, '/'));
    const submitted = submitTo(manager);
    await manager.unregister('toy', null);
    release();
    await expect(submitted).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
  });
});

describe('versions', () => {
  it('serve side by side: each its share without a version, exactly that one with', async () => {
    const { log, manager } = make();
    for (const version of ['1', '2']) await register(manager, { version });
    for (let round = 0; round < 4; round++) await expectAnswer(manager, 'toy');
    await expectAnswer(manager, 'toy', '2');
    const served = log.lines.filter((line) => line.msg === 'slot taken').map((line) => line.version);
    expect(served).toEqual(['1', '2', '1', '2', '2']);
    await expect(submitTo(manager, { version: '9' })).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' });
    expect(await manager.scale('toy', null, { maxGroups: 2 })).toMatchObject([
      { version: '1', minGroups: 1, maxGroups: 2 },
      { version: '2', minGroups: 1, maxGroups: 2 },
    ]);
    await manager.unregister('toy', '1');
    await expectAnswer(manager, 'toy');
    await expect(submitTo(manager, { version: '1' })).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' });
    await manager.unregister('toy', null);
    await expect(manager.unregister('toy', null)).rejects.toMatchObject({
      code: 'MODEL_NOT_FOUND',
      message: 'Model or workflow not found: toy',
    });
  });
});

describe('scaling', () => {
  it.each([
    [{ minGroups: -1 }, 'min_worker is -1'],
    [{ maxGroups: 65 }, 'max_worker is 65; it must be a whole number from 0 to 64'],
    [{ device: 'gpu0' }, 'device is gpu0, but toy is computed on cpu (option.device, load_on_devices)'],
  ])('refuses %j', async (scale, message) => {
    const { manager } = make();
    await register(manager);
    await expect(manager.scale('toy', null, scale)).rejects.toMatchObject({
      code: 'BAD_REQUEST',
      message: expect.stringContaining(message),
    });
  });

  it('keeps the least at or below the most, as DJLServing does', async () => {
    const { manager } = make();
    await register(manager);
    expect(await manager.scale('toy', null, { minGroups: 3 })).toMatchObject([
      { minGroups: 1, maxGroups: 1 },
    ]);
    expect(await manager.scale('toy', null, { maxGroups: 2 })).toMatchObject([
      { minGroups: 1, maxGroups: 2 },
    ]);
    expect(await manager.scale('toy', null, { minGroups: 2 })).toMatchObject([
      { minGroups: 2, maxGroups: 2 },
    ]);
  });
});

describe('unregistering', () => {
  it('lets what runs and waits end, then its workers and its download go', async () => {
    const { log, manager, store } = make({ pauseAtStep: 2 }, { maxRollingBatchSize: 1 });
    await register(manager);
    const [pid] = manager.describe('toy', null)[0]!.groups.map((group) => group.ranks[0]!.pid!);
    const generations = [];
    for (const id of [1, 2]) generations.push(await submitTo(manager, { ...promptIds(id), maxNewTokens: 4 }));
    await log.find((line) => line.msg.startsWith('paused'));
    const leaving = manager.unregister('toy', null);
    await expect(submitTo(manager)).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' });
    // The name is free at once.
    expect(manager.list()).toEqual([]);
    expect(store.released).toEqual([]);
    process.kill(pid!, 'SIGUSR2');
    for (const [index, generation] of generations.entries())
      expect(tokenIdsOf((await readAll(generation.events)).events)).toEqual(fakeTokens([index + 1], 4));
    await leaving;
    expect(store.released).toEqual(['file:///store/toy']);
    await allGone([pid!]);
  });
});
