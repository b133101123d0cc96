/**
 * Prompts that go on behind rows of another sequence, by the real ranks, against Hugging Face transformers: copied from one that
 * runs, and in the slot of one that has ended. Families with a window, experts, ALiBi, learned and two rotary tables among them.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partition } from '../../../partitioner/partition.js';
import { GREEDY_SAMPLING, type SequenceOpen, type Step } from '../../../proto/control.js';
import { type Golden, type GoldenPrompt, goldenFolder, readGolden } from '../../support/golden.js';
import { relativeDeviation } from '../../support/golden-families.js';
import { createInProcessGroup, type InProcessGroup } from '../../support/in-process-group.js';

const FAMILIES = ['mistral', 'gemma3', 'mixtral', 'qwen3-moe', 'bloom', 'gpt2', 'phi3-longrope', 'qwen3'];
const RELATIVE_TOLERANCE = 1e-5;
const DONOR_SLOT = 0;
const OTHER_SLOT = 2;

describe.each(FAMILIES)('%s', (family) => {
  const golden: Golden = readGolden(family);
  let store: string;
  beforeAll(() => {
    store = mkdtempSync(path.join(tmpdir(), 'prefix-rows-'));
  });
  afterAll(() => rmSync(store, { recursive: true }));

  describe.each([1, 2])('tp %i', (tp) => {
    let group: InProcessGroup;
    let lastStep = 0;
    let lastSequence = 0;
    beforeAll(async () => {
      const { shardFolder } = await partition({
        folder: goldenFolder(family),
        outStore: store,
        tp,
        dtype: 'fp32',
      });
      group = await createInProcessGroup(shardFolder);
      lastStep = 0;
    });

    const step = async (rest: Partial<Step>) => {
      const results = await group.step({ step: ++lastStep, closeSlots: [], opens: [], rows: [], ...rest });
      for (const result of results) expect(result.rows).toEqual(results[0]?.rows);
      return results[0]!.rows;
    };
    /** Prompt and new tokens together are as many as the golden's, which decides over a rotary table. */
    const opened = (slot: number, prompt: GoldenPrompt, promptIds: number[], keptRows = 0): SequenceOpen => ({
      slot,
      sequence: ++lastSequence,
      promptIds,
      maxNewTokens: prompt.ids.length + prompt.greedyIds.length - promptIds.length,
      endIds: [],
      sampling: GREEDY_SAMPLING,
      keptRows,
    });
    /** A sequence that shares `rows` tokens with the prompt, then goes its own way. */
    const openDonor = async (prompt: GoldenPrompt, rows: number): Promise<SequenceOpen> => {
      const other = [3, 1, 4, 1, 5].map((id, index) => (prompt.ids[rows + index] === id ? id + 1 : id));
      const donor = opened(DONOR_SLOT, prompt, [...prompt.ids.slice(0, rows), ...other]);
      const row = { slot: DONOR_SLOT, sequence: donor.sequence };
      await step({ opens: [donor], rows: [{ ...row, tokens: donor.promptIds.length }] });
      await step({ rows: [{ ...row, tokens: 1 }] });
      return donor;
    };
    /** Greedy tokens behind `rows` rows, beside a donor that goes on where there is one; the logits are compared on the way. */
    const goOn = async (
      prompt: GoldenPrompt,
      { sequence, slot }: SequenceOpen,
      rows: number,
      first: Partial<Step>,
      donor?: SequenceOpen,
    ): Promise<number[]> => {
      const ids: number[] = [];
      const beside = donor ? [{ slot: donor.slot, sequence: donor.sequence, tokens: 1 }] : [];
      for (let tokens = prompt.ids.length - rows; ids.length < prompt.greedyIds.length; tokens = 1) {
        const isFirst = ids.length === 0;
        const results = await step({
          ...(isFirst ? first : {}),
          rows: [{ slot, sequence, tokens }, ...(ids.length < 5 ? beside : [])],
        });
        if (isFirst) {
          const deviation = relativeDeviation(group.logits(0), golden.logits(prompt, prompt.ids.length - 1));
          expect(deviation).toBeLessThanOrEqual(RELATIVE_TOLERANCE);
        }
        ids.push(results[0]!.tokens[0]!.tokenId);
      }
      return ids;
    };
    const cases = golden.prompts
      .filter(({ ids }) => ids.length > 20)
      .flatMap((prompt) => [17, prompt.ids.length - 1].map((rows) => ({ prompt, rows })));

    it.each(cases)('copies $rows rows of a running sequence', async ({ prompt, rows }) => {
      const donor = await openDonor(prompt, rows);
      const open = opened(OTHER_SLOT, prompt, prompt.ids);
      const copies = [
        {
          fromSlot: donor.slot,
          fromSequence: donor.sequence,
          toSlot: open.slot,
          toSequence: open.sequence,
          rows,
        },
      ];
      const ids = await goOn(prompt, open, rows, { opens: [open], copies }, donor);
      expect(ids).toEqual(prompt.greedyIds);
      await step({ closeSlots: [DONOR_SLOT, OTHER_SLOT] });
    });

    it.each(cases)('keeps $rows rows of a sequence that has ended', async ({ prompt, rows }) => {
      await openDonor(prompt, rows);
      const open = opened(DONOR_SLOT, prompt, prompt.ids, rows);
      expect(await goOn(prompt, open, rows, { opens: [open] })).toEqual(prompt.greedyIds);
      await step({ closeSlots: [DONOR_SLOT] });
      expect(group.runners.map((runner) => runner.inspect(0).kvTouchedBytes)).toEqual(Array(tp).fill(0));
    });
  });
});
