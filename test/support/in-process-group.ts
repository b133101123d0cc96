/**
 * All ranks of a group in this process, joined by the in-memory collective: the real executor, cache, attention and chooser
 * without sockets and processes, so that logits can be read.
 */
import type { LateMask, StepResult } from '../../proto/control.js';
import { createInMemoryCollectives } from '../../shard-worker/collective/in-memory.js';
import { CpuDevice } from '../../shard-worker/device/cpu-device.js';
import type { Device } from '../../shard-worker/device/device.js';
import { Executor } from '../../shard-worker/executor.js';
import type { KvType } from '../../shard-worker/kv-cache.js';
import { LateMasks } from '../../shard-worker/late-masks.js';
import { openKvCache } from '../../shard-worker/open-kv-cache.js';
import { readManifest } from '../../shard-worker/read-manifest.js';
import { Chooser } from '../../shard-worker/sampler/chooser.js';
import { StepRunner } from '../../shard-worker/step-runner.js';

/** ONNX Runtime has one environment a process. */
let device: Device | null = null;

export interface InProcessGroup {
  runners: StepRunner[];
  /** One step on every rank; the results of all of them, which must be alike. */
  step(step: Parameters<StepRunner['run']>[0]): Promise<StepResult[]>;
  /** Masks of rows in steps that were begun without (Row.maskFollows). */
  tellMasks(masks: readonly LateMask[]): void;
  /** Logits of one row of the last step over the whole vocabulary, padding cut off. */
  logits(row: number): Float32Array;
}

export async function createInProcessGroup(
  shardFolder: string,
  options: {
    maxSlots?: number;
    maxDrafts?: number;
    slotTokens?: number;
    kvType?: KvType;
    device?: () => Device;
    capturesRuns?: boolean;
  } = {},
): Promise<InProcessGroup> {
  const manifest = await readManifest(shardFolder);
  const { model, perRank, worldSize } = manifest;
  device ??= options.device?.() ?? new CpuDevice({ threads: 1, logId: 'test' });
  const sharedDevice = device;
  const maxSlots = options.maxSlots ?? 4;
  const collectives = createInMemoryCollectives(worldSize);
  const ranks = await Promise.all(
    collectives.map(async (collective, rank) => {
      const kvCache = openKvCache({
        ...{ device: sharedDevice, manifest, shardFolder, rank },
        ...(options.kvType && { type: options.kvType }),
        maxSlots,
        slotTokens: options.slotTokens ?? model.contextLength,
      });
      const executor = new Executor({
        manifest,
        shardFolder,
        rank,
        device: sharedDevice,
        collective,
        kvCache,
        maxStepTokens: 512,
        maxRows: maxSlots + (options.maxDrafts ?? 0),
        capturesRuns: options.capturesRuns ?? true,
      });
      await executor.load();
      const chooser = new Chooser({ collective, vocabSize: model.vocabSize, vocabPerRank: perRank.vocab });
      const lateMasks = new LateMasks();
      const parts = { executor, kvCache, chooser, collective, weightBytes: 0, lateMasks };
      return { executor, lateMasks, runner: new StepRunner(parts) };
    }),
  );
  return {
    runners: ranks.map(({ runner }) => runner),
    step: (step) => Promise.all(ranks.map(({ runner }) => runner.run(step))),
    tellMasks: (masks) => {
      for (const { lateMasks } of ranks) lateMasks.put(masks);
    },
    logits(row) {
      const whole = new Float32Array(perRank.vocab * worldSize);
      ranks.forEach(({ executor }, rank) => {
        whole.set(executor.output(row), rank * perRank.vocab);
      });
      return whole.subarray(0, model.vocabSize);
    },
  };
}
