/**
 * What each weight format costs the real model (test/real): the README's table, by one command.
 *
 * In      the folders that test/real/make_real_model.py keeps: the model with its channels shuffled, so that no format fits its weights by chance, the
 *         GGUF file itself (the same function), and transformers' greedy texts in float32
 * Out     rows: format, bytes, loss of perplexity on two texts, decode beside float32's, chat answers with float32's first tokens
 * How     perplexity as bench:perplexity; decode steps of one sequence on one thread, in rounds of all formats one after the other, the median of
 *         the rounds' ratios to float32: other work on the machine touches both
 * Errors  an Error that says how the model is made, where it is not there
 */
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { calibrated } from '../../partitioner/importance/calibrated.js';
import { partition } from '../../partitioner/partition.js';
import { spread } from '../spread.js';
import { parseFormatWord } from './format-words.js';
import { LockstepGroup } from './lockstep-group.js';

const CACHE = path.join(process.env.XDG_CACHE_HOME || path.join(homedir(), '.cache'), 'shardserve', 'real');
const SHUFFLED = path.join(CACHE, 'smollm2-shuffled');
const GGUF = path.join(CACHE, 'gguf', 'model.gguf');

/** What a row is called, the model it is of, and its format. */
const ROWS = [
  ['fp32', SHUFFLED, 'fp32'],
  ['bf16', SHUFFLED, 'bf16'],
  ['int8', SHUFFLED, 'int8'],
  ['int4', SHUFFLED, 'int4'],
  ['its GGUF (Q4_1), int4', GGUF, 'int4'],
  ['its GGUF (Q4_1), int8', GGUF, 'int8'],
] as const;

/** Greedy tokens of an answer that are compared. */
const FIRST_TOKENS = 20;
const DECODE_STEPS = 24;
const ROUNDS = 5;

export interface RealRow {
  format: string;
  bytes: number;
  /** The loss on each text, against fp32's perplexity. */
  worse: number[];
  /** Decode steps in the time of one of fp32's. */
  speed: number;
  /** Chat answers that begin as fp32's. */
  sameBeginnings: number;
}

export interface RealTable {
  answers: number;
  predictedTokens: number;
  rows: RealRow[];
}

interface Expected {
  texts: { isChat: boolean; promptIds: number[]; ids: number[] }[];
}

/** @param texts windows of ids of each text */
export async function measureRealModel(
  texts: readonly (readonly number[][])[],
  store: string,
  tell: (line: string) => void,
): Promise<RealTable> {
  const expected = JSON.parse(readFileSync(path.join(CACHE, 'expected.json'), 'utf8')) as Expected;
  const chats = expected.texts.filter(({ isChat }) => isChat);
  const windowTokens = (texts[0]?.[0]?.length ?? 1) - 1;
  const measured: { group: LockstepGroup; row: RealRow; perplexities: number[] }[] = [];
  for (const [format, folder, word] of ROWS) {
    const options = { folder, outStore: store, tp: 1, ...parseFormatWord(word) };
    const { manifest, shardFolder } = await partition({ ...options, importance: await calibrated(options) });
    const group = await LockstepGroup.load(shardFolder, windowTokens);
    const perplexities: number[] = [];
    for (const windows of texts) {
      const nats = await group.nats(windows);
      perplexities.push(Math.exp(nats.reduce((sum, value) => sum + value, 0) / nats.length));
    }
    let sameBeginnings = 0;
    for (const { ids, promptIds } of chats) {
      const seen = await group.greedy(promptIds, FIRST_TOKENS);
      if (seen.join() === ids.slice(0, FIRST_TOKENS).join()) sameBeginnings++;
    }
    const first = measured[0]?.perplexities ?? perplexities;
    const row: RealRow = {
      format,
      bytes: manifest.ranks.reduce((sum, rank) => sum + rank.weights.bytes, manifest.shared?.bytes ?? 0),
      worse: perplexities.map((value, index) => value / first[index]! - 1),
      speed: 1,
      sameBeginnings,
    };
    measured.push({ group, row, perplexities });
    tell(`${format}: ${row.worse.map(percent).join(', ')}, ${sameBeginnings} of ${chats.length}`);
  }
  const prompt = chats[0]?.promptIds ?? [];
  const ratios = measured.map((): number[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    const times: number[] = [];
    for (const { group } of measured) times.push(await group.decodeMs(prompt, DECODE_STEPS));
    times.forEach((time, index) => {
      ratios[index]!.push(times[0]! / time);
    });
  }
  for (const [index, { row }] of measured.entries()) row.speed = spread(ratios[index]!).median;
  return {
    answers: chats.length,
    predictedTokens: texts.reduce((sum, windows) => sum + windows.length * windowTokens, 0),
    rows: measured.map(({ row }) => row),
  };
}

export const WHY_NO_REAL_MODEL = existsSync(path.join(CACHE, 'expected.json'))
  ? null
  : `there is no real model in ${CACHE}: run python3 test/real/make_real_model.py`;

/** Its tokenizer is that of all rows. */
export const REAL_TOKENIZER = SHUFFLED;

export function renderRealTable({ answers, rows }: RealTable): string[] {
  const header = [
    'weights',
    'bytes',
    'technical.txt',
    'heldout.txt',
    'decode',
    `first ${FIRST_TOKENS} tokens of an answer`,
  ];
  const lines = rows.map(({ bytes, format, sameBeginnings, speed, worse }, index) => [
    format,
    `${(bytes / 1e6).toFixed(0)} MB`,
    ...worse.map((value) => (index === 0 ? '–' : percent(value))),
    `${speed.toFixed(2)} ×`,
    `${sameBeginnings} of ${answers}`,
  ]);
  return [header, header.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`);
}

const percent = (share: number): string => `${share < 0 ? '−' : '+'}${Math.abs(100 * share).toFixed(2)} %`;
