/**
 * Every decoder family's tiny checkpoint (test/golden/tiny_families.py) against Hugging Face transformers in float32, split over
 * 1, 2 and 4 ranks: logits where the golden keeps them, greedy tokens, the prompt in one piece and in chunks.
 *
 * Tolerance  max |a − b| ≤ RELATIVE_TOLERANCE · max |b|: narrow enough that one form of GELU is not taken for the other
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partition } from '../../partitioner/partition.js';
import { verifyShards } from '../../partitioner/verify.js';
import { GREEDY_SAMPLING } from '../../proto/control.js';
import { type Golden, type GoldenPrompt, goldenFolder, readGolden } from '../support/golden.js';
import { GOLDEN_FAMILIES, relativeDeviation } from '../support/golden-families.js';
import { createInProcessGroup, type InProcessGroup } from '../support/in-process-group.js';

const DEGREES = [1, 2, 4];
const RELATIVE_TOLERANCE = 1e-5;

describe.each(GOLDEN_FAMILIES)('%s', (family) => {
  const golden: Golden = readGolden(family);
  let store: string;
  beforeAll(() => {
    store = mkdtempSync(path.join(tmpdir(), 'golden-families-'));
  });
  afterAll(() => rmSync(store, { recursive: true }));

  describe.each(DEGREES)('tp %i', (tp) => {
    let group: InProcessGroup;
    let shardFolder: string;
    let step = 0;
    let sequence = 0;
    beforeAll(async () => {
      const options = { folder: goldenFolder(family), outStore: store, tp, dtype: 'fp32' as const };
      shardFolder = (await partition(options)).shardFolder;
      group = await createInProcessGroup(shardFolder);
    });

    /** Prompt in chunks, then greedy tokens. @returns them, and the largest deviation of logits on the way */
    async function generate(prompt: GoldenPrompt, chunks: readonly number[]) {
      const slot = 1;
      sequence++;
      const open = {
        slot,
        sequence,
        promptIds: prompt.ids,
        maxNewTokens: prompt.greedyIds.length,
        endIds: [],
        sampling: GREEDY_SAMPLING,
      };
      const ids: number[] = [];
      let deviation = 0;
      let done = 0;
      for (let index = 0; ids.length < prompt.greedyIds.length; index++) {
        const tokens = chunks[index] ?? 1;
        const opens = index === 0 ? [open] : [];
        const rows = [{ slot, sequence, tokens }];
        const results = await group.step({ step: ++step, closeSlots: [], opens, rows });
        done += tokens;
        for (const result of results) expect(result.rows).toEqual(results[0]?.rows);
        if (done === prompt.ids.length) {
          deviation = relativeDeviation(group.logits(0), golden.logits(prompt, done - 1));
        }
        const row = results[0]?.rows[0];
        if (row?.hasToken) ids.push(row.tokenId);
      }
      await group.step({ step: ++step, closeSlots: [slot], opens: [], rows: [] });
      return { ids, deviation };
    }

    it('gives the golden logits and greedy tokens, prompt in one piece and in chunks', async () => {
      let largest = 0;
      for (const prompt of golden.prompts) {
        const half = Math.floor(prompt.ids.length / 2);
        for (const chunks of [[prompt.ids.length], [1, half, prompt.ids.length - half - 1]]) {
          const { ids, deviation } = await generate(prompt, chunks);
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
          const slot = 1;
          sequence++;
          await group.step({
            step: ++step,
            closeSlots: [],
            opens: [{ slot, sequence, promptIds: ids, maxNewTokens, endIds: [], sampling: GREEDY_SAMPLING }],
            rows: [{ slot, sequence, tokens: ids.length }],
          });
          const deviation = relativeDeviation(group.logits(0), golden.logits(prompt, position));
          expect(deviation).toBeLessThanOrEqual(RELATIVE_TOLERANCE);
          await group.step({ step: ++step, closeSlots: [slot], opens: [], rows: [] });
        }
      }
    });

    it('joined again the shards equal the checkpoint', async () => {
      const { tensors } = await verifyShards({ folder: goldenFolder(family), shardFolder });
      expect(tensors).toBeGreaterThan(0);
    });
  });
});
