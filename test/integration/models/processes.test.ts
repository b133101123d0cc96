/**
 * Families whose programs differ most, as real worker processes joined by real collectives: greedy tokens are the golden ones. Half of
 * them a run; all in test:long.
 *
 * The prompt comes in chunks, and the first ones choose nothing: between their all-reduces no gather tells that everything has
 * arrived, which is what a model with an odd number of sums a step must survive (partitioner/graph/program.ts).
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partition } from '../../../partitioner/partition.js';
import { GREEDY_SAMPLING } from '../../../proto/control.js';
import { allReducesPerStep } from '../../../proto/manifest.js';
import { Coordinator } from '../../../server/coordinator/coordinator.js';
import { LocalLauncher } from '../../../server/machine/ranks/local-launcher.js';
import { LogRecorder } from '../../fixtures/log-recorder.js';
import { drawn } from '../../fixtures/seeded-random.js';
import { goldenFolder, readGolden } from '../../support/golden.js';
import { repositoryRoot } from '../../support/repository-root.js';

const WORKER = path.join(repositoryRoot, 'dist', 'shard-worker', 'main.js');

let store: string;
beforeAll(() => {
  store = mkdtempSync(path.join(tmpdir(), 'golden-processes-'));
});
afterAll(() => rmSync(store, { recursive: true }));

/** All-reduces of a step: two a layer, one where attention and MLP stand side by side. */
const FAMILIES = [
  ['falcon-11b', 3],
  ['gptj', 2],
  ['gemma2', 4],
  ['mixtral', 4],
  ['gpt-oss', 4],
] as const;

it('a rank that fails says to clients what failed, and to the log where', async () => {
  const options = { folder: goldenFolder('gptj'), outStore: store, tp: 1, dtype: 'fp32' as const };
  const { shardFolder, manifest } = await partition(options);
  const log = new LogRecorder();
  const coordinator = await Coordinator.start({
    launch: {
      shardFolder,
      ...{ worldSize: 1, threads: 1, maxSlots: 1, slotTokens: 64, maxStepTokens: 32 },
      ...{
        collectiveTimeoutMs: 10_000,
        collective: 'zmq' as const,
        verifyChecksums: false,
      },
    },
    launcher: new LocalLauncher(WORKER),
    ...{ loadingTimeoutMs: 60_000, stepTimeoutMs: 60_000, logger: log.logger },
  });
  try {
    const promptIds = [manifest.model.vocabSize, 1];
    const failed = coordinator.step({
      closeSlots: [],
      opens: [{ slot: 0, sequence: 1, promptIds, maxNewTokens: 4, endIds: [], sampling: GREEDY_SAMPLING }],
      rows: [{ slot: 0, sequence: 1, tokens: 2 }],
    });
    await expect(failed).rejects.toMatchObject({
      code: 'WORKER_FAILED',
      message: expect.stringMatching(/^rank 0: ONNX Runtime Run: [^\n]*out of data bounds[^\n]*$/),
    });
    await log.find(({ msg }) => /^\s+at .*executor\.js/.test(msg));
  } finally {
    await coordinator.stop();
  }
});

const CASES = FAMILIES.flatMap(([family, allReduces]) =>
  (['zmq', 'shm'] as const).map((collective) => [family, collective, allReduces] as const),
);

describe('two processes', () => {
  it.each(drawn(CASES, 2))('%s over %s give the golden tokens', async (family, collective, allReduces) => {
    const golden = readGolden(family);
    const options = { folder: goldenFolder(family), outStore: store, tp: 2, dtype: 'fp32' as const };
    const { shardFolder, manifest } = await partition(options);
    expect(allReducesPerStep(manifest.program)).toBe(allReduces);
    const coordinator = await Coordinator.start({
      launch: {
        shardFolder,
        worldSize: 2,
        threads: 1,
        maxSlots: 2,
        slotTokens: 160,
        maxStepTokens: 64,
        collectiveTimeoutMs: 10_000,
        collective,
        verifyChecksums: false,
      },
      launcher: new LocalLauncher(WORKER),
      loadingTimeoutMs: 60_000,
      stepTimeoutMs: 60_000,
      logger: new LogRecorder().logger,
    });
    try {
      for (const [sequence, prompt] of golden.prompts.entries()) {
        const slot = sequence % 2;
        const ids: number[] = [];
        for (let done = 0; ids.length < prompt.greedyIds.length; ) {
          const tokens = done === 0 ? 1 : Math.max(1, Math.min(29, prompt.ids.length - done));
          const open = {
            slot,
            sequence,
            promptIds: prompt.ids,
            maxNewTokens: prompt.greedyIds.length,
            endIds: [],
            sampling: GREEDY_SAMPLING,
          };
          const { rows } = await coordinator.step({
            closeSlots: [],
            opens: done === 0 ? [open] : [],
            rows: [{ slot, sequence, tokens }],
          });
          done += tokens;
          ids.push(...(rows[0]?.tokens ?? []).map(({ tokenId }) => tokenId));
        }
        expect(ids).toEqual(prompt.greedyIds);
        await coordinator.step({ closeSlots: [slot], opens: [], rows: [] });
      }
    } finally {
      await coordinator.stop();
    }
  });
});
