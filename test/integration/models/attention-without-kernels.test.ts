/**
 * Attention on a machine without our own kernels, by ONNX Runtime: the golden logits and greedy tokens of families that have a window, a
 * soft cap, ALiBi, sinks, latents and pieces, the prompt in one piece and in chunks.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { partition } from '../../../partitioner/partition.js';
import { loadKernels } from '../../../shard-worker/native/kernels.js';
import { goldenFolder, readGolden } from '../../support/golden.js';
import { RELATIVE_TOLERANCE, relativeDeviation } from '../../support/golden-families.js';
import { greedyRuns } from '../../support/greedy-runs.js';
import { createInProcessGroup } from '../../support/in-process-group.js';

let store: string;
const before = process.env.SHARDSERVE_KERNELS;
beforeAll(() => {
  process.env.SHARDSERVE_KERNELS = 'off';
  store = mkdtempSync(path.join(tmpdir(), 'attention-without-kernels-'));
});
afterAll(() => {
  if (before === undefined) delete process.env.SHARDSERVE_KERNELS;
  else process.env.SHARDSERVE_KERNELS = before;
  rmSync(store, { recursive: true });
});

it.each(['mistral', 'gemma2', 'bloom', 'gpt-oss', 'deepseek-v2', 'llama4', 'falcon-rw'])(
  '%s',
  async (family) => {
    expect(loadKernels()).toBeNull();
    const golden = readGolden(family);
    const options = { folder: goldenFolder(family), outStore: store, tp: 2, dtype: 'fp32' as const };
    const run = greedyRuns(await createInProcessGroup((await partition(options)).shardFolder));
    for (const prompt of golden.prompts) {
      const half = Math.floor(prompt.ids.length / 2);
      for (const chunks of [[prompt.ids.length], [1, half, prompt.ids.length - half - 1]]) {
        const { ids, promptLogits } = await run(prompt.ids, prompt.greedyIds.length, chunks);
        const expected = golden.logits(prompt, prompt.ids.length - 1);
        expect(relativeDeviation(promptLogits, expected)).toBeLessThanOrEqual(RELATIVE_TOLERANCE);
        expect(ids).toEqual(prompt.greedyIds);
      }
    }
  },
);
