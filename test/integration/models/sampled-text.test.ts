/**
 * What the embedded model writes when it is sampled: English words, no loops; and the same text for the same seed at every
 * degree and in any batch.
 *
 * Prompts and check are those of the model card (models/training/sample.py): the first 12 words of the first 20 held-out
 * stories, seeds 0 … 19, 100 tokens, the end id held back.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partition } from '../../../partitioner/partition.js';
import { GREEDY_SAMPLING, type SequenceOpen } from '../../../proto/control.js';
import { Tokenizer } from '../../../server/text/tokenizer.js';
import { createInProcessGroup } from '../../support/in-process-group.js';
import { repositoryRoot } from '../../support/repository-root.js';

const SAMPLES = 20;
const NEW_TOKENS = 100;
const PROMPT_WORDS = 12;
const modelFolder = path.join(repositoryRoot, 'models', 'embedded');
const training = path.join(repositoryRoot, 'models', 'training');

let store: string;
let tokenizer: Tokenizer;
let prompts: number[][];

beforeAll(async () => {
  store = mkdtempSync(path.join(tmpdir(), 'sampled-'));
  tokenizer = await Tokenizer.load(modelFolder);
  const stories = readFileSync(path.join(training, 'heldout.txt'), 'utf8').split('<|endoftext|>');
  prompts = stories
    .map((story) => story.trim().split(/\s+/).slice(0, PROMPT_WORDS).join(' '))
    .filter((prompt) => prompt.length > 0)
    .slice(0, SAMPLES)
    .map((prompt) => tokenizer.encode(prompt));
});
afterAll(() => rmSync(store, { recursive: true }));

const openSample = (sample: number, slot: number): SequenceOpen => ({
  slot,
  sequence: sample + 1,
  promptIds: prompts[sample] ?? [],
  maxNewTokens: NEW_TOKENS,
  endIds: [0],
  sampling: {
    ...GREEDY_SAMPLING,
    greedy: false,
    temperature: 0.8,
    topK: 40,
    topP: 0.95,
    minNewTokens: NEW_TOKENS,
    seedLow: sample,
    seedHigh: 0,
  },
});

/** Run the samples together, all prompts in the first step. */
async function generate(tp: number, samples: readonly number[]): Promise<number[][]> {
  const { shardFolder } = await partition({ folder: modelFolder, outStore: store, tp, dtype: 'fp32' });
  const group = await createInProcessGroup(shardFolder, { maxSlots: samples.length });
  const opens = samples.map((sample, slot) => openSample(sample, slot));
  const ids: number[][] = opens.map(() => []);
  for (let index = 0; index < NEW_TOKENS; index++) {
    const [result] = await group.step({
      step: index + 1,
      closeSlots: [],
      opens: index === 0 ? opens : [],
      rows: opens.map(({ slot, sequence, promptIds }) => ({
        slot,
        sequence,
        tokens: index === 0 ? promptIds.length : 1,
      })),
    });
    result?.rows.forEach((row, slot) => {
      ids[slot]?.push(row.tokens[0]!.tokenId);
    });
  }
  return ids;
}

const ALL = Array.from({ length: SAMPLES }, (_, sample) => sample);

/** Split over two ranks; both tests look at it. */
let split: Promise<number[][]> | undefined;
const splitInTwo = (): Promise<number[][]> => {
  split ??= generate(2, ALL);
  return split;
};

/** Lower-case words of a continuation; its first and last may be parts of words. */
const wordsOf = (text: string): string[] =>
  (
    text
      .replace(/^[A-Za-z']+/, '')
      .toLowerCase()
      .match(/[a-z]+(?:'[a-z]+)*/g) ?? []
  ).slice(0, -1);

/** How often the most frequent run of six words occurs. */
function mostRepeats(words: readonly string[]): number {
  const counts = new Map<string, number>();
  for (let start = 0; start + 6 <= words.length; start++) {
    const run = words.slice(start, start + 6).join(' ');
    counts.set(run, (counts.get(run) ?? 0) + 1);
  }
  return Math.max(0, ...counts.values());
}

describe('sampled text', () => {
  it('is made of the corpus words and does not loop', async () => {
    const known = new Set(
      gunzipSync(readFileSync(path.join(training, 'words.txt.gz')))
        .toString('utf8')
        .split('\n'),
    );
    const texts = (await splitInTwo()).map((ids) => wordsOf(tokenizer.decode(ids)));
    const words = texts.flat();
    expect(words.length).toBeGreaterThan(1000);
    const share = words.filter((word) => known.has(word)).length / words.length;
    console.log(`${(share * 100).toFixed(2)} % of ${words.length} words are known`);
    expect(share).toBeGreaterThanOrEqual(0.97);
    for (const text of texts) expect(mostRepeats(text)).toBeLessThan(3);
  });

  it('is the same for the same seed at tp 1, 2 and 4, alone and in any batch', async () => {
    const together = await generate(1, ALL);
    expect(new Set(together.map((ids) => ids.join())).size).toBe(SAMPLES);
    expect(await splitInTwo()).toEqual(together);
    expect(await generate(4, [...ALL].reverse())).toEqual([...together].reverse());
    for (const [tp, sample] of [
      [1, 0],
      [2, 19],
      [4, 7],
    ] as const) {
      expect(await generate(tp, [sample])).toEqual([together[sample]]);
    }
  });
});
