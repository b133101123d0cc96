/**
 * Every decoder family's tiny checkpoint (test/golden/tiny_families.py) against Hugging Face transformers in float32, whole and, a third
 * of them a run, split over 2 and 4 ranks: logits where the golden keeps them, greedy tokens, the prompt in one piece and in chunks.
 *
 * Tolerance  max |a − b| ≤ RELATIVE_TOLERANCE · max |b|: narrow enough that one form of GELU is not taken for the other
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partition } from '../../../partitioner/partition.js';
import { verifyShards } from '../../../partitioner/verify/verify.js';
import { drawn } from '../../fixtures/seeded-random.js';
import { type Golden, goldenFolder, readGolden } from '../../support/golden.js';
import { GOLDEN_FAMILIES, RELATIVE_TOLERANCE, relativeDeviation } from '../../support/golden-families.js';
import { greedyRuns } from '../../support/greedy-runs.js';
import { createInProcessGroup } from '../../support/in-process-group.js';

/** One rank for every family, two and four for a third of them, others in each run; all in test:long. */
const SPLIT = drawn(GOLDEN_FAMILIES, 3);

describe.each(GOLDEN_FAMILIES)('%s', (family) => {
  const golden: Golden = readGolden(family);
  let store: string;
  beforeAll(() => {
    store = mkdtempSync(path.join(tmpdir(), 'golden-families-'));
  });
  afterAll(() => rmSync(store, { recursive: true }));

  describe.each(SPLIT.includes(family) ? [1, 2, 4] : [1])('tp %i', (tp) => {
    let run: ReturnType<typeof greedyRuns>;
    let shardFolder: string;
    beforeAll(async () => {
      const options = { folder: goldenFolder(family), outStore: store, tp, dtype: 'fp32' as const };
      shardFolder = (await partition(options)).shardFolder;
      run = greedyRuns(await createInProcessGroup(shardFolder));
    });

    it('gives the golden logits and greedy tokens, prompt in one piece and in chunks', async () => {
      let largest = 0;
      for (const prompt of golden.prompts) {
        const half = Math.floor(prompt.ids.length / 2);
        for (const chunks of [[prompt.ids.length], [1, half, prompt.ids.length - half - 1]]) {
          const { ids, promptLogits } = await run(prompt.ids, prompt.greedyIds.length, chunks);
          const deviation = relativeDeviation(promptLogits, golden.logits(prompt, prompt.ids.length - 1));
          largest = Math.max(largest, deviation);
          expect(deviation).toBeLessThanOrEqual(RELATIVE_TOLERANCE);
          expect(ids).toEqual(prompt.greedyIds);
        }
      }
      if (process.env.GOLDEN_REPORT) console.log(`${family} tp ${tp}: ${largest.toExponential(1)}`);
    });

    it('keeps logits of the first position and of one in the middle', async () => {
      for (const prompt of golden.prompts) {
        for (const position of prompt.logitPositions.slice(0, -1)) {
          const ids = prompt.ids.slice(0, position + 1);
          // As long as the golden's sequence, which decides over the rotary table of LongRoPE.
          const maxNewTokens = prompt.ids.length + prompt.greedyIds.length - ids.length;
          const { promptLogits } = await run(ids, 1, [ids.length], { maxNewTokens });
          const deviation = relativeDeviation(promptLogits, golden.logits(prompt, position));
          expect(deviation).toBeLessThanOrEqual(RELATIVE_TOLERANCE);
        }
      }
    });

    it('joined again the shards equal the checkpoint', async () => {
      const { tensors } = await verifyShards({ folder: goldenFolder(family), shardFolder });
      expect(tensors).toBeGreaterThan(0);
    });
  });
});
