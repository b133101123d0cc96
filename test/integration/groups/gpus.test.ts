/** Worker groups on a machine of eight GPUs, over fake workers: which ranks get which, and what is refused. */
import { afterEach, describe, expect, it } from 'vitest';
import type { Manifest } from '../../../proto/manifest.js';
import type { ModelConfig } from '../../../server/config/config.js';
import { deviceClassOf } from '../../../server/engines/llm/device-class.js';
import { LlmModel } from '../../../server/engines/llm/llm-engine.js';
import { MachineGpus } from '../../../server/machine/machine-gpus.js';
import { LocalLauncher } from '../../../server/machine/ranks/local-launcher.js';
import { visibleGpus } from '../../../server/machine/visible-gpus.js';
import type { WorkLoadManager } from '../../../server/work-load-manager/work-load-manager.js';
import { FAKE_TEXTS } from '../../fixtures/generate-requests.js';
import type { LogLine, LogRecorder } from '../../fixtures/log-recorder.js';
import { FAKE_CONFIG, FAKE_MANIFEST, FAKE_WORKER, makeFakeManager } from '../../support/fake-model.js';

const GIB = 1024 ** 3;

const managers: WorkLoadManager[] = [];
afterEach(async () => {
  await Promise.all(managers.splice(0).map((manager) => manager.close()));
});

const eight = (freeBytes = 80 * GIB): MachineGpus =>
  new MachineGpus({
    gpus: Array.from({ length: 8 }, (_, index) => ({
      ...{ index, name: 'A GPU', uuid: `GPU-${index}`, totalBytes: 80 * GIB, freeBytes, busyShare: 0 },
    })),
    cudaFolder: 'nowhere',
  });

const manifestOf = (worldSize: number, device: ModelConfig['device']): Manifest => ({
  ...FAKE_MANIFEST,
  ...{ worldSize, deviceClass: deviceClassOf({ device }) },
  ranks: Array.from({ length: worldSize }, () => FAKE_MANIFEST.ranks[0]!),
});

/** Models named by their degree: tp2 has two ranks a group. */
function managerOn(gpus: MachineGpus) {
  const encoder = { encode: async () => [], close: async () => {} };
  const engine = {
    prepare: async (config: ModelConfig) =>
      new LlmModel(
        config,
        {
          ...{ shardFolder: '{}', texts: FAKE_TEXTS, encoder },
          manifest: manifestOf(config.tensorParallelDegree as number, config.device),
        },
        { launcher: new LocalLauncher(FAKE_WORKER), gpus },
      ),
  };
  const made = makeFakeManager({}, { engineOf: () => engine });
  managers.push(made.manager);
  return made;
}

const onGpus = (name: string, degree: number, config: Partial<ModelConfig> = {}): ModelConfig => ({
  ...FAKE_CONFIG,
  ...{ name, tensorParallelDegree: degree, device: 'cuda' as const, maxRollingBatchSize: 2 },
  ...config,
});

const devicesOf = (manager: WorkLoadManager, name: string): string[][] =>
  manager.describe(name, null)[0]!.groups.map(({ ranks }) => ranks.map(({ device }) => device));

const all = Array.from({ length: 8 }, (_, index) => `gpu${index}`);
const isBehind = (log: LogRecorder, first: LogLine, line: LogLine): boolean =>
  log.lines.indexOf(line) > log.lines.indexOf(first);

describe('eight GPUs', () => {
  it('are four groups of two ranks on pairs that share none, and no fifth', async () => {
    const { manager } = managerOn(eight());
    await manager.load(onGpus('tp2', 2, { minGroups: 4, maxGroups: 4 }));
    expect(devicesOf(manager, 'tp2')).toEqual([
      ['gpu0', 'gpu1'],
      ['gpu2', 'gpu3'],
      ['gpu4', 'gpu5'],
      ['gpu6', 'gpu7'],
    ]);
    await expect(manager.load(onGpus('more', 2, { minGroups: 5, maxGroups: 5 }))).rejects.toThrow(
      'more is to have 5 worker groups of 2 GPUs, but there are GPUs for 4',
    );
    await expect(manager.load(onGpus('another', 2))).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
      message: 'A worker group needs 2 GPUs, but of 8 that it may have 0 are free',
    });
  });

  it('are one group of four ranks on those that load_on_devices names', async () => {
    const { manager } = managerOn(eight());
    await manager.load(onGpus('tp4', 4, { gpus: [0, 1, 2, 3], fillDevices: true }));
    expect(manager.describe('tp4', null)[0]).toMatchObject({ minGroups: 1, maxGroups: 1 });
    expect(devicesOf(manager, 'tp4')).toEqual([['gpu0', 'gpu1', 'gpu2', 'gpu3']]);
  });

  it('refuse a degree of nine with the count', async () => {
    const { manager } = managerOn(eight());
    await expect(manager.load(onGpus('tp9', 9))).rejects.toThrow(
      'tensor_parallel_degree 9 needs as many GPUs, but there are 8',
    );
  });

  it('refuse a model that their memory has no room for', async () => {
    const { manager } = managerOn(eight(4 * 1024 ** 2));
    await expect(manager.load(onGpus('tp2', 2))).rejects.toMatchObject({ code: 'OUT_OF_MEMORY' });
  });

  it('go on with the group that starts again, and come back from one that is gone', async () => {
    const gpus = eight();
    const { log, manager } = managerOn(gpus);
    await manager.load(onGpus('first', 2, { minGroups: 1, maxGroups: 1 }));
    const [group] = manager.describe('first', null)[0]!.groups;
    const pid = group!.ranks[0]!.pid!;
    process.kill(pid, 'SIGKILL');
    await log.find(({ msg }) => msg === 'worker group died');
    await log.find(
      (line) =>
        line.msg === 'worker groups running' &&
        line.running === 1 &&
        log.lines.some(({ msg }, at) => msg === 'worker group died' && at < log.lines.indexOf(line)),
    );
    expect(devicesOf(manager, 'first')).toEqual([['gpu0', 'gpu1']]);
    await manager.unregister('first', null);
    await manager.load(onGpus('second', 8));
    expect(devicesOf(manager, 'second')[0]).toHaveLength(8);
  });

  it('give each group that starts again its own pair, where all others are taken', async () => {
    const { log, manager } = managerOn(eight());
    await manager.load(onGpus('tp2', 2, { minGroups: 4, maxGroups: 4 }));
    const third = manager.describe('tp2', null)[0]!.groups[2]!;
    expect(third.ranks.map(({ device }) => device)).toEqual(['gpu4', 'gpu5']);
    process.kill(third.ranks[1]!.pid!, 'SIGKILL');
    const died = await log.find(({ msg }) => msg === 'worker group died');
    await log.find(
      (line) => isBehind(log, died, line) && line.msg === 'worker groups running' && line.running === 4,
    );
    const { groups } = manager.describe('tp2', null)[0]!;
    const again = groups.find(({ ranks }) => ranks[0]!.device === 'gpu4')!;
    expect(again.ranks.map(({ device }) => device)).toEqual(['gpu4', 'gpu5']);
    expect(again.ranks.map(({ pid }) => pid)).not.toContain(third.ranks[0]!.pid);
    expect(devicesOf(manager, 'tp2').flat().sort()).toEqual(all);
  });

  it('go from a model that scales down to one that scales up', async () => {
    const { log, manager } = managerOn(eight());
    await manager.load(onGpus('a', 2, { minGroups: 1, maxGroups: 4 }));
    await manager.load(onGpus('b', 2, { minGroups: 1, maxGroups: 4 }));
    const running = (model: string, count: number) =>
      log.find(
        (line) => line.msg === 'worker groups running' && line.model === model && line.running === count,
      );
    await manager.scale('a', null, { minGroups: 3, maxGroups: 3 });
    await running('a', 3);
    expect(devicesOf(manager, 'a')).toEqual([
      ['gpu0', 'gpu1'],
      ['gpu4', 'gpu5'],
      ['gpu6', 'gpu7'],
    ]);
    await expect(manager.scale('b', null, { minGroups: 2, maxGroups: 4 })).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
      message: 'A worker group needs 2 GPUs, but of 8 that it may have 0 are free',
    });
    expect(devicesOf(manager, 'b')).toEqual([['gpu2', 'gpu3']]);
    await expect(manager.scale('b', null, { device: 'cpu', minGroups: 1 })).rejects.toThrow(
      'device is cpu, but b is computed on cuda',
    );
    await manager.unregister('a', null);
    await manager.scale('b', null, { minGroups: 4, maxGroups: 4 });
    await running('b', 4);
    expect(devicesOf(manager, 'b').flat().sort()).toEqual(all);
  });

  it('are shared by models whose load_on_devices overlap, none twice', async () => {
    const { manager } = managerOn(eight());
    await manager.load(onGpus('a', 2, { gpus: [0, 1, 2] }));
    await manager.load(onGpus('b', 2, { gpus: [1, 2, 3] }));
    expect([devicesOf(manager, 'a'), devicesOf(manager, 'b')]).toEqual([
      [['gpu0', 'gpu1']],
      [['gpu2', 'gpu3']],
    ]);
    await expect(manager.load(onGpus('c', 2, { gpus: [0, 1, 2, 3] }))).rejects.toThrow(
      'A worker group needs 2 GPUs, but of 4 that it may have 0 are free',
    );
    await expect(manager.load(onGpus('d', 2, { gpus: [7, 8] }))).rejects.toThrow(
      'load_on_devices names GPU 8, but there are 8',
    );
    // Nothing of what was refused is kept.
    await manager.load(onGpus('e', 4));
    expect(devicesOf(manager, 'e')).toEqual([['gpu4', 'gpu5', 'gpu6', 'gpu7']]);
  });

  it('are not asked for by a model on the CPU, which stands beside them', async () => {
    const { manager } = managerOn(eight());
    await manager.load(onGpus('tp8', 8));
    for (const device of ['cpu', 'auto'] as const) {
      await manager.load(onGpus(device, 2, { device, minGroups: 2, maxGroups: 2 }));
      expect(devicesOf(manager, device)).toEqual(Array(2).fill(['cpu', 'cpu']));
    }
  });

  it('are one where a GPU is cut: a degree of two is refused', async () => {
    const parts = [0, 1].map((part) => ({
      ...{ index: 0, name: 'A part', uuid: `MIG-${part}`, totalBytes: GIB, freeBytes: GIB, busyShare: null },
    }));
    const { manager } = managerOn(new MachineGpus({ gpus: visibleGpus(parts, {}), cudaFolder: 'nowhere' }));
    await expect(manager.load(onGpus('tp2', 2))).rejects.toThrow('needs as many GPUs, but there is 1');
    await manager.load(onGpus('tp1', 1));
    expect(devicesOf(manager, 'tp1')).toEqual([['gpu0']]);
  });
});
