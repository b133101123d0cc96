/**
 * What a weight format costs a model in quality: perplexity on a text, and greedy texts beside those of other degrees, through
 * the partitioner's shards and the shard worker's executor.
 *
 * In      a model folder, a text, formats, degrees: see HELP
 * Out     a table, or one JSON object with --json
 * How     the method of models/training/heldout_loss.py, whose figure for fp32 it gives: stories joined, each begun by its own
 *         special token, cut into windows that do not overlap; in a window of n + 1 tokens the last n are predicted
 * Errors  a ServingError's message and exit code 1
 */
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { calibrated } from '../../partitioner/importance/calibrated.js';
import { partition } from '../../partitioner/partition.js';
import { Tokenizer } from '../../server/text/tokenizer.js';
import { parseFormatWord } from './format-words.js';
import { LockstepGroup } from './lockstep-group.js';
import { measureRealModel, REAL_TOKENIZER, renderRealTable, WHY_NO_REAL_MODEL } from './real-table.js';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const END_OF_TEXT = '<|endoftext|>';

const HELP = `Usage: npm run bench:perplexity -- [options]

  --model DIR       a checkpoint (default: the embedded model)
  --text FILE       stories with lines of ${END_OF_TEXT} between them (default: models/training/heldout.txt)
  --formats F,F     dtype[-block][-zp][-rtn][-head8][-qkv8][-first8][-last8][-down8] (default fp32,int8,int4-128,int4-32)
  --tp N,N          degrees (default 1,2)
  --window N        tokens a window (default 192, what the embedded model was trained on)
  --windows N       of the text at most so many, evenly spread (default: all)
  --texts N         also: greedy texts of 100 tokens from the beginnings of N windows, compared with the first degree's (default 0)
  --store DIR       where shards are kept (default: a folder in the system's temporary folder)
  --real            the README's table instead: formats × bytes, loss, decode and greedy answers of the real model (test/real); --window 512 and
                    --windows 4 of each of two texts where nothing else is said
  --json            one JSON object instead of a table`;

const PROMPT_TOKENS = 16;
const NEW_TOKENS = 100;

export interface FormatQuality {
  format: string;
  tp: number;
  /** Weights of all ranks, and the shared file. */
  bytes: number;
  nats: number;
  perplexity: number;
  /** perplexity ÷ that of the first line, − 1 */
  worse: number;
  /** Greedy texts that are those of the format's first degree; null: not asked for. */
  sameTexts: number | null;
}

export interface PerplexityReport {
  model: string;
  text: string;
  predictedTokens: number;
  texts: number;
  lines: FormatQuality[];
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      model: { type: 'string', default: path.join(ROOT, 'models', 'embedded') },
      text: { type: 'string', default: path.join(ROOT, 'models', 'training', 'heldout.txt') },
      formats: { type: 'string', default: 'fp32,int8,int4-128,int4-32' },
      tp: { type: 'string', default: '1,2' },
      window: { type: 'string', default: '192' },
      windows: { type: 'string', default: '1000000' },
      texts: { type: 'string', default: '0' },
      store: { type: 'string', default: path.join(tmpdir(), 'shardserve-bench') },
      real: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  if (values.real) return realTable(argv.includes('--window') ? values : { ...values, window: '512' });
  const windows = await readWindows(values.model, values.text, Number(values.window), Number(values.windows));
  const prompts = windows.slice(0, Number(values.texts)).map((ids) => ids.slice(0, PROMPT_TOKENS));
  const lines: FormatQuality[] = [];
  for (const format of values.formats.split(',')) {
    let texts: string[] | null = null;
    for (const tp of values.tp.split(',').map(Number)) {
      const options = { folder: values.model, outStore: values.store, tp, ...parseFormatWord(format) };
      const isPlain = format.endsWith('-plain');
      const importance = isPlain ? undefined : await calibrated(options);
      const { shardFolder, manifest } = await partition({ ...options, importance });
      const group = await LockstepGroup.load(shardFolder, Number(values.window));
      const each = await group.nats(windows);
      const nats = each.reduce((sum, value) => sum + value, 0) / each.length;
      const perplexity = Math.exp(nats);
      const written: string[] = [];
      for (const prompt of prompts) written.push((await group.greedy(prompt, NEW_TOKENS)).join());
      texts ??= written;
      const first = texts;
      lines.push({
        format,
        tp,
        bytes: manifest.ranks.reduce((sum, rank) => sum + rank.weights.bytes, manifest.shared?.bytes ?? 0),
        nats,
        perplexity,
        worse: perplexity / (lines[0]?.perplexity ?? perplexity) - 1,
        sameTexts:
          prompts.length === 0 ? null : written.filter((text, index) => text === first[index]).length,
      });
      if (!values.json) process.stderr.write(`${format} at tp ${tp}: ${perplexity.toFixed(3)}\n`);
    }
  }
  const report: PerplexityReport = {
    model: values.model,
    text: path.basename(values.text),
    predictedTokens: windows.length * Number(values.window),
    texts: prompts.length,
    lines,
  };
  console.log(values.json ? JSON.stringify(report) : renderTable(report));
  return 0;
}

/** Texts of the README's table; each is cut into at most so many windows. */
const REAL_TEXTS = ['bench/perplexity/technical.txt', 'models/training/heldout.txt'];
const REAL_WINDOWS = 4;

async function realTable(values: {
  window: string;
  windows: string;
  store: string;
  json: boolean;
}): Promise<number> {
  if (WHY_NO_REAL_MODEL !== null) throw new Error(WHY_NO_REAL_MODEL);
  const most = Math.min(Number(values.windows), REAL_WINDOWS);
  const texts: number[][][] = [];
  for (const file of REAL_TEXTS) {
    texts.push(await readWindows(REAL_TOKENIZER, path.join(ROOT, file), Number(values.window), most));
  }
  const table = await measureRealModel(texts, values.store, (line) => process.stderr.write(`${line}\n`));
  console.log(values.json ? JSON.stringify(table) : renderRealTable(table).join('\n'));
  return 0;
}

/** Windows of `size` + 1 ids; a window's last id is the next one's first. */
async function readWindows(model: string, file: string, size: number, most: number): Promise<number[][]> {
  const tokenizer = await Tokenizer.load(path.resolve(model));
  const ids: number[] = [];
  for (const story of readFileSync(file, 'utf8').split(END_OF_TEXT)) {
    const text = story.replace(/^\n+|\n+$/g, '');
    if (text !== '') for (const id of tokenizer.encode(text)) ids.push(id);
  }
  const count = Math.floor((ids.length - 1) / size);
  const taken = Math.min(most, count);
  return Array.from({ length: taken }, (_, index) => {
    const start = Math.floor((index * count) / taken) * size;
    return ids.slice(start, start + size + 1);
  });
}

function renderTable({ lines, model, predictedTokens, text, texts }: PerplexityReport): string {
  const header = ['format', 'tp', 'weights', 'nats a token', 'perplexity', 'against the first'];
  const rows = lines.map((line) => [
    line.format,
    String(line.tp),
    `${(line.bytes / 1e6).toFixed(2)} MB`,
    line.nats.toFixed(4),
    line.perplexity.toFixed(3),
    `${line.worse < 0 ? '−' : '+'}${Math.abs(100 * line.worse).toFixed(2)} %`,
    ...(line.sameTexts === null ? [] : [`${line.sameTexts} of ${texts}`]),
  ]);
  if (texts > 0) header.push('same greedy texts');
  const table = [header, header.map(() => '---'), ...rows];
  return [
    `${path.basename(model)} on ${text}, ${predictedTokens} predicted tokens`,
    '',
    ...table.map((row) => `| ${row.join(' | ')} |`),
  ].join('\n');
}
