/**
 * Many prompts, each with its own greedy answer, known before a server is asked.
 *
 * The answers come from the executor in this process: one rank, one sequence at a time, no server, no batching. A prompt where
 * the best two logits come close on the way is left out, since kernels round differently in a batch of another shape. That the
 * executor itself is right is the business of test/integration/models/golden.test.ts.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { partition } from '../../partitioner/partition.js';
import { GREEDY_SAMPLING } from '../../proto/control.js';
import { Tokenizer } from '../../server/text/tokenizer.js';
import { createInProcessGroup, type InProcessGroup } from './in-process-group.js';
import { repositoryRoot } from './repository-root.js';

export const EMBEDDED = path.join(repositoryRoot, 'models', 'embedded');

export interface KnownAnswer {
  prompt: string;
  /** Greedy ids, `newTokens` of them. */
  ids: number[];
}

/** Between the logarithms of the best two probabilities; fp32 sums in another order differ by 1e-4 at most. */
const LEAST_GAP = 0.005;

const FIRST = words(
  'Once Then One Today Soon Later Suddenly Now Yesterday Sometimes Finally Maybe Again There Here',
);
const SECOND = words(
  'a the his her my our their that this every another some little big old young happy sad red blue green',
);
const THIRD = words(
  'dog cat girl boy king queen bird tree ball house car fish bear frog mouse bunny train boat flower star',
);

/** `count` prompts, all different, with `newTokens` ids each. */
export async function knownAnswers(count: number, newTokens: number): Promise<KnownAnswer[]> {
  const store = mkdtempSync(path.join(tmpdir(), 'answers-'));
  try {
    const { shardFolder } = await partition({ folder: EMBEDDED, outStore: store, tp: 1, dtype: 'fp32' });
    const tokenizer = await Tokenizer.load(EMBEDDED);
    const group = await createInProcessGroup(shardFolder, { maxSlots: 1, slotTokens: 128 });
    const answers: KnownAnswer[] = [];
    const run = { step: 0, sequence: 0 };
    for (const prompt of prompts()) {
      const ids = await answerOf(group, run, tokenizer.encode(prompt), newTokens);
      if (ids !== null) answers.push({ prompt, ids });
      if (answers.length === count) return answers;
    }
    throw new Error(`there are only ${answers.length} clear answers, ${count} are wanted`);
  } finally {
    rmSync(store, { recursive: true });
  }
}

function words(text: string): string[] {
  return text.split(' ');
}

function* prompts(): Generator<string> {
  // The last word changes fastest, so that neighbours differ in more than their end.
  for (const third of THIRD) {
    for (const second of SECOND) {
      for (const first of FIRST) yield `${first} ${second} ${third}`;
    }
  }
}

/** null: not clear enough. */
async function answerOf(
  group: InProcessGroup,
  run: { step: number; sequence: number },
  promptIds: number[],
  newTokens: number,
): Promise<number[] | null> {
  const sequence = ++run.sequence;
  const sampling = { ...GREEDY_SAMPLING, logprob: true, topLogprobs: 2 };
  const open = { slot: 0, sequence, promptIds, maxNewTokens: newTokens, endIds: [], sampling };
  const ids: number[] = [];
  let isClear = true;
  while (ids.length < newTokens) {
    const isFirst = ids.length === 0;
    const tokens = isFirst ? promptIds.length : 1;
    const [result] = await group.step({
      step: ++run.step,
      closeSlots: isFirst && sequence > 1 ? [0] : [],
      opens: isFirst ? [open] : [],
      rows: [{ slot: 0, sequence, tokens }],
    });
    const [token] = result!.rows[0]!.tokens;
    ids.push(token!.tokenId);
    const [best, second] = token!.topLogprobs;
    if (best!.logprob - second!.logprob < LEAST_GAP) isClear = false;
  }
  return isClear ? ids : null;
}
