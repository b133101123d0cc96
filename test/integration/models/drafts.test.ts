/**
 * Drafts by the real ranks: whatever is guessed, the tokens and their log-probabilities are those of steps of one token, greedy and
 * sampled, with penalties, beside a sequence that guesses nothing, at degrees 1 and 2, by our own kernels and by ONNX Runtime's operators.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type PartitionOptions, partition } from '../../../partitioner/partition.js';
import { type ChosenToken, Finish, GREEDY_SAMPLING, type Sampling } from '../../../proto/control.js';
import { createInProcessGroup, type InProcessGroup } from '../../support/in-process-group.js';
import { repositoryRoot } from '../../support/repository-root.js';

const NEW_TOKENS = 24;
const MAX_DRAFTS = 5;
const PROMPT = [317, 9, 288, 41, 77, 77, 12, 5, 317, 9];
const END_ID = 0;

const modelFolder = path.join(repositoryRoot, 'models', 'embedded');
const SETTINGS: readonly [string, Partial<Sampling>][] = [
  ['greedy', { logprob: true, topLogprobs: 2 }],
  ['sampled', { greedy: false, temperature: 0.9, topP: 0.95, seedLow: 7, logprob: true }],
  [
    'sampled with penalties',
    { greedy: false, temperature: 1.1, topK: 40, repetitionPenalty: 1.3, presencePenalty: 0.4, seedLow: 3 },
  ],
];

let store: string;
beforeAll(() => {
  store = mkdtempSync(path.join(tmpdir(), 'drafts-'));
});
afterAll(() => rmSync(store, { recursive: true }));

interface Run {
  group: InProcessGroup;
  step: number;
  sequence: number;
}

/** @param guess drafts behind the new tokens so far; `beside`: another sequence is in every step, and guesses nothing */
async function write(
  run: Run,
  sampling: Partial<Sampling>,
  guess: (ids: readonly number[]) => number[],
  beside = false,
): Promise<{ tokens: ChosenToken[]; steps: number; other: number[] }> {
  const { group } = run;
  const sequences = beside ? [++run.sequence, ++run.sequence] : [++run.sequence];
  const opens = sequences.map((sequence, slot) => ({
    ...{ slot, sequence, promptIds: slot === 0 ? PROMPT : [...PROMPT].reverse(), endIds: [END_ID] },
    maxNewTokens: slot === 0 ? NEW_TOKENS : 200,
    sampling: { ...GREEDY_SAMPLING, minNewTokens: NEW_TOKENS, ...sampling },
  }));
  const tokens: ChosenToken[] = [];
  const other: number[] = [];
  let steps = 0;
  for (let finish: Finish = Finish.RUNNING; finish === Finish.RUNNING; steps++) {
    const guessed = guess(tokens.map(({ tokenId }) => tokenId));
    const draftIds = guessed.slice(0, Math.min(MAX_DRAFTS, NEW_TOKENS - tokens.length - 1));
    const results = await group.step({
      ...{ step: ++run.step, closeSlots: [], opens: steps === 0 ? opens : [] },
      rows: opens.map(({ promptIds, sequence, slot }) => ({
        ...{ slot, sequence, tokens: steps === 0 ? promptIds.length : 1 },
        ...(slot === 0 && { draftIds }),
      })),
    });
    for (const result of results) expect(result.rows).toEqual(results[0]!.rows);
    const [row, second] = results[0]!.rows;
    tokens.push(...row!.tokens);
    if (second) other.push(second.tokens[0]!.tokenId);
    finish = row!.finish;
  }
  await group.step({ step: ++run.step, closeSlots: opens.map(({ slot }) => slot), opens: [], rows: [] });
  return { tokens, steps, other };
}

const FORMATS: readonly [string, Pick<PartitionOptions, 'dtype' | 'layout'>][] = [
  ['int8', { dtype: 'int8' }],
  ['fp32 by operators', { dtype: 'fp32', layout: 'blocks' }],
];

describe.each(FORMATS)('%s', (_, format) => {
  describe.each([1, 2])('at degree %i', (tp) => {
    let run: Run;
    beforeAll(async () => {
      const { shardFolder } = await partition({ folder: modelFolder, outStore: store, tp, ...format });
      run = {
        group: await createInProcessGroup(shardFolder, { maxDrafts: MAX_DRAFTS }),
        step: 0,
        sequence: 0,
      };
    });

    it.each(SETTINGS)('%s', async (_, sampling) => {
      const plain = await write(run, sampling, () => []);
      expect(plain.steps).toBe(NEW_TOKENS);
      const ids = plain.tokens.map(({ tokenId }) => tokenId);
      const right = await write(run, sampling, (made) => ids.slice(made.length));
      expect(right.tokens).toEqual(plain.tokens);
      expect(right.steps).toBe(NEW_TOKENS / (MAX_DRAFTS + 1));
      // The draft after next is wrong, now and then the next, and sometimes nothing is guessed.
      const wrongAt = (made: readonly number[]): number[] =>
        made.length % 5 === 4
          ? []
          : ids.slice(made.length).map((id, index) => (index === made.length % 3 ? id + 1 : id));
      const mixed = await write(run, sampling, wrongAt);
      expect(mixed.tokens).toEqual(plain.tokens);
      expect(mixed.steps).toBeLessThan(NEW_TOKENS);
      const alone = await write(run, sampling, () => [], true);
      const crowded = await write(run, sampling, wrongAt, true);
      expect(crowded.tokens).toEqual(plain.tokens);
      expect(crowded.other).toEqual(alone.other.slice(0, crowded.other.length));
    });
  });
});
