/**
 * A text does not depend on who else runs, on how its prompt was cut, or on the degree: the same tokens, and the same bits of every
 * logit, alone and in a crowd, in one piece and in three,
 * with and without rows that another sequence computed (a prefix hit), at tp 1, 2 and 4.
 *
 * How: our kernels add a row's products in one order whatever the other rows are, and whatever the degree (partitioner/plan/sum-pieces.ts).
 */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partition } from '../../../partitioner/partition.js';
import type { FormatOptions } from '../../../partitioner/quantise/weight-format.js';
import { GREEDY_SAMPLING } from '../../../proto/control.js';
import { kernelLibrary } from '../../../proto/kernel-library.js';
import { goldenFolder, readGolden } from '../../support/golden.js';
import { createInProcessGroup, type InProcessGroup } from '../../support/in-process-group.js';
import { repositoryRoot } from '../../support/repository-root.js';

const NEW_TOKENS = 6;
const CROWD = 16;
const TEXTS = 8;

let store: string;
beforeAll(() => {
  store = mkdtempSync(path.join(tmpdir(), 'invariance-'));
});
afterAll(() => rmSync(store, { recursive: true }));

/** What a text was: its tokens, and the logits that chose each. */
interface Text {
  ids: number[];
  logits: Float32Array[];
}

/** Sequence i begins at step `starts(i)`, its prompt in so many pieces. */
interface Schedule {
  starts: (index: number) => number;
  pieces: number;
}

const ALONE: Schedule = { starts: (index) => index * 100, pieces: 1 };
const IN_A_CROWD: Schedule = { starts: (index) => Math.floor(index / 3), pieces: 1 };
const CUT: Schedule = { starts: (index) => index * 100, pieces: 3 };

async function play(
  group: InProcessGroup,
  prompts: readonly number[][],
  schedule: Schedule,
): Promise<Text[]> {
  const texts = prompts.map((): Text => ({ ids: [], logits: [] }));
  const done = prompts.map(() => 0); // tokens of the prompt
  let closeSlots: number[] = [];
  let step = 0;
  for (let turn = 0; texts.some(({ ids }) => ids.length < NEW_TOKENS); turn++) {
    const running = prompts.flatMap((prompt, index) => {
      const text = texts[index]!;
      if (turn < schedule.starts(index) || text.ids.length >= NEW_TOKENS) return [];
      const left = prompt.length - done[index]!;
      const tokens = left === 0 ? 1 : Math.min(left, Math.ceil(prompt.length / schedule.pieces));
      return [{ index, tokens, isLast: left <= tokens }];
    });
    if (running.length === 0) continue;
    const opens = running
      .filter(({ index }) => done[index] === 0)
      .map(({ index }) => ({
        ...{ slot: index % CROWD, sequence: index + 1, promptIds: prompts[index]!, maxNewTokens: NEW_TOKENS },
        ...{ endIds: [], sampling: GREEDY_SAMPLING },
      }));
    const rows = running.map(({ index, tokens }) => ({ slot: index % CROWD, sequence: index + 1, tokens }));
    const [result] = await group.step({ step: ++step, closeSlots, opens, rows });
    closeSlots = [];
    let logits = 0;
    running.forEach(({ index, tokens, isLast }, row) => {
      const text = texts[index]!;
      done[index] = Math.min(prompts[index]!.length, done[index]! + tokens);
      if (!isLast) return;
      text.ids.push(result?.rows[row]?.tokens[0]?.tokenId ?? -1);
      text.logits.push(group.logits(logits++).slice());
      if (text.ids.length === NEW_TOKENS) closeSlots.push(index % CROWD);
    });
  }
  return texts;
}

/** Each prompt once, and once more by a sequence that takes half of its rows from the first. */
async function hits(group: InProcessGroup, prompts: readonly number[][]): Promise<Text[]> {
  const texts: Text[] = [];
  let step = 0;
  for (const [index, promptIds] of prompts.entries()) {
    const [first, second] = [2 * index + 1, 2 * index + 2];
    const open = { promptIds, maxNewTokens: NEW_TOKENS, endIds: [], sampling: GREEDY_SAMPLING };
    const rows = Math.floor(promptIds.length / 2);
    await group.step({
      ...{ step: ++step, closeSlots: [], opens: [{ ...open, slot: 0, sequence: first }] },
      rows: [{ slot: 0, sequence: first, tokens: promptIds.length }],
    });
    const text: Text = { ids: [], logits: [] };
    while (text.ids.length < NEW_TOKENS) {
      const isFirst = text.ids.length === 0;
      const [result] = await group.step({
        ...{ step: ++step, closeSlots: [] },
        opens: isFirst ? [{ ...open, slot: 1, sequence: second }] : [],
        copies: isFirst ? [{ fromSlot: 0, fromSequence: first, toSlot: 1, toSequence: second, rows }] : [],
        rows: [{ slot: 1, sequence: second, tokens: isFirst ? promptIds.length - rows : 1 }],
      });
      text.ids.push(result?.rows[0]?.tokens[0]?.tokenId ?? -1);
      text.logits.push(group.logits(0).slice());
    }
    await group.step({ step: ++step, closeSlots: [0, 1], opens: [], rows: [] });
    texts.push(text);
  }
  return texts;
}

const bitsOf = ({ logits }: Text): string[] =>
  logits.map((values) => createHash('sha256').update(new Uint8Array(values.buffer)).digest('hex'));

/** Pieces of a story. */
function promptsOf(name: string): number[][] {
  const story = readGolden(name).prompts.flatMap(({ ids }) => ids);
  return Array.from({ length: TEXTS }, (_, index) => {
    const start = (index * 7) % (story.length - 40);
    return story.slice(start, start + 3 + ((index * 11) % 31));
  });
}

describe.runIf(kernelLibrary() !== null)('the same tokens and the same bits', () => {
  const EMBEDDED = path.join(repositoryRoot, 'models', 'embedded');
  it.each<[string, string, FormatOptions]>([
    ['embedded', EMBEDDED, { dtype: 'fp32' }],
    ['embedded', EMBEDDED, { dtype: 'bf16' }],
    ['embedded', EMBEDDED, { dtype: 'int8' }],
    ['embedded', EMBEDDED, { dtype: 'int4' }],
    ['gptj', goldenFolder('gptj'), { dtype: 'int4' }],
    ['gemma2', goldenFolder('gemma2'), { dtype: 'int8' }],
  ])('%s, %s, %j', async (name, folder, format) => {
    const prompts = promptsOf(name);
    const group = async (tp: number): Promise<InProcessGroup> => {
      const { shardFolder } = await partition({ folder, outStore: store, tp, ...format });
      return createInProcessGroup(shardFolder, { maxSlots: CROWD, slotTokens: 64 });
    };
    const played = async (tp: number, schedule: Schedule): Promise<Text[]> =>
      play(await group(tp), prompts, schedule);
    const alone = await played(1, ALONE);
    expect(new Set(alone.map(({ ids }) => ids.join())).size).toBeGreaterThan(3);
    const same = (seen: readonly Text[]): void => {
      expect(seen.map(({ ids }) => ids)).toEqual(alone.map(({ ids }) => ids));
      expect(seen.map(bitsOf)).toEqual(alone.map(bitsOf));
    };
    same(await played(1, IN_A_CROWD));
    same(await played(1, CUT));
    same(await played(2, ALONE));
    same(await played(2, CUT));
    same(await played(4, IN_A_CROWD));
    same(await hits(await group(2), prompts));
  });
});
