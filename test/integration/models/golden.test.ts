/**
 * The whole numerics against Hugging Face transformers in float32: every family's tiny checkpoint and the embedded model,
 * split over 1, 2 and 4 ranks. Prompts are longer than the sliding window and the original rotary context, and run once in
 * one piece and once in chunks.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partition } from '../../../partitioner/partition.js';
import { type Golden, type GoldenPrompt, goldenFolder, readGolden } from '../../support/golden.js';
import { RELATIVE_TOLERANCE, relativeDeviation } from '../../support/golden-families.js';
import { greedyRuns } from '../../support/greedy-runs.js';
import { createInProcessGroup } from '../../support/in-process-group.js';
import { repositoryRoot } from '../../support/repository-root.js';

const FAMILIES = ['llama', 'llama-linear', 'mistral', 'qwen2', 'qwen3', 'embedded'];

const modelFolder = (name: string): string =>
  name === 'embedded' ? path.join(repositoryRoot, 'models', 'embedded') : goldenFolder(name);

describe.each(FAMILIES)('%s', (family) => {
  let golden: Golden;
  let store: string;
  beforeAll(() => {
    golden = readGolden(family);
    store = mkdtempSync(path.join(tmpdir(), 'golden-'));
  });
  afterAll(() => rmSync(store, { recursive: true }));

  describe.each([1, 2, 4])('tp %i', (tp) => {
    let run: ReturnType<typeof greedyRuns>;
    beforeAll(async () => {
      const { shardFolder } = await partition({
        folder: modelFolder(family),
        outStore: store,
        tp,
        dtype: 'fp32',
      });
      run = greedyRuns(await createInProcessGroup(shardFolder));
    });

    /** Greedy tokens; the logits at the last prompt position are compared on the way. */
    async function generate(prompt: GoldenPrompt, chunks: readonly number[]): Promise<number[]> {
      const { ids, promptLogits } = await run(prompt.ids, prompt.greedyIds.length, chunks);
      const expected = golden.logits(prompt, prompt.ids.length - 1);
      expect(relativeDeviation(promptLogits, expected)).toBeLessThanOrEqual(RELATIVE_TOLERANCE);
      return ids;
    }

    it('gives the golden logits and greedy tokens, prompt in one piece', async () => {
      for (const prompt of golden.prompts) {
        expect(await generate(prompt, [prompt.ids.length])).toEqual(prompt.greedyIds);
      }
    });

    it('gives the same with the prompt in chunks', async () => {
      for (const prompt of golden.prompts) {
        const half = Math.floor(prompt.ids.length / 2);
        const chunks = [1, half, prompt.ids.length - half - 1].filter((tokens) => tokens > 0);
        expect(await generate(prompt, chunks)).toEqual(prompt.greedyIds);
      }
    });
  });
});
