/**
 * The whole numerics against Hugging Face transformers in float32: every family's tiny checkpoint and the embedded model,
 * split over 1, 2 and 4 ranks. Prompts are longer than the sliding window and the original rotary context, and run once in
 * one piece and once in chunks.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partition } from '../../partitioner/partition.js';
import { GREEDY_SAMPLING } from '../../proto/control.js';
import { type Golden, type GoldenPrompt, goldenFolder, readGolden } from '../support/golden.js';
import { createInProcessGroup, type InProcessGroup } from '../support/in-process-group.js';
import { repositoryRoot } from '../support/repository-root.js';

const FAMILIES = ['llama', 'llama-linear', 'mistral', 'qwen2', 'qwen3', 'embedded'];

const modelFolder = (name: string): string =>
  name === 'embedded' ? path.join(repositoryRoot, 'models', 'embedded') : goldenFolder(name);

function largestDifference(seen: Float32Array, expected: Float32Array): number {
  expect(seen.length).toBe(expected.length);
  return seen.reduce((largest, value, index) => {
    const difference = Math.abs(value - (expected[index] ?? Number.NaN));
    return Math.max(difference, largest);
  }, 0);
}

describe.each(FAMILIES)('%s', (family) => {
  let golden: Golden;
  let store: string;
  beforeAll(() => {
    golden = readGolden(family);
    store = mkdtempSync(path.join(tmpdir(), 'golden-'));
  });
  afterAll(() => rmSync(store, { recursive: true }));

  describe.each([1, 2, 4])('tp %i', (tp) => {
    let group: InProcessGroup;
    let stepNumber = 0;
    let sequence = 0;
    beforeAll(async () => {
      const { shardFolder } = await partition({
        folder: modelFolder(family),
        outStore: store,
        tp,
        dtype: 'fp32',
      });
      group = await createInProcessGroup(shardFolder);
    });

    /** Prompt in chunks, then greedy tokens; the logits at the last position of every chunk are compared on the way. */
    async function generate(prompt: GoldenPrompt, chunks: readonly number[]): Promise<number[]> {
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
      let done = 0;
      for (let index = 0; ids.length < prompt.greedyIds.length; index++) {
        const tokens = chunks[index] ?? 1;
        const results = await group.step({
          step: ++stepNumber,
          closeSlots: [],
          opens: index === 0 ? [open] : [],
          rows: [{ slot, sequence, tokens }],
        });
        done += tokens;
        for (const result of results) expect(result.rows).toEqual(results[0]?.rows);
        if (done === prompt.ids.length) {
          const difference = largestDifference(group.logits(0), golden.logits(prompt, done - 1));
          expect(difference).toBeLessThanOrEqual(1e-3);
        }
        const row = results[0]?.rows[0];
        if (row?.hasToken) ids.push(row.tokenId);
      }
      await group.step({ step: ++stepNumber, closeSlots: [slot], opens: [], rows: [] });
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
