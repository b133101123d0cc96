/**
 * What `npm run check:device` proves of a GPU's arithmetic: tiny checkpoints of several families give transformers' tokens and logits, one of
 * them over two ranks; and how long a step takes, what crosses, what it keeps of the GPU's memory.
 *
 * In      a device; which goldens at which degrees
 * Out     a row a golden and degree; nothing is asserted here, a row says itself whether it is right
 * Limits  deadlineMs: what does not fit is told as not run
 */
import assert from 'node:assert/strict';
import { partition } from '../../partitioner/partition.js';
import type { Device, RemoteDevice } from '../../shard-worker/device/device.js';
import { goldenFolder, readGolden } from '../support/golden.js';
import { relativeDeviation } from '../support/golden-families.js';
import { greedyRuns } from '../support/greedy-runs.js';
import { createInProcessGroup } from '../support/in-process-group.js';
import { type QuantisedPrompt, readQuantisedGolden } from '../support/quantised-goldens.js';

export interface CheckedCase {
  name: string;
  tp: number;
  dtype: 'fp32' | 'int8' | 'int4';
  /** Linears that int4 leaves at 8 bits; absent: the device's. */
  eightBit?: readonly ('head' | 'qkv')[];
}

export interface CheckedRow {
  /** A golden's, or another step's. */
  name: string;
  tp: number | null;
  dtype: string;
  /** `right`, or what is not. */
  verdict: string;
  /** More of it. */
  note: string;
  /** max |seen − golden| / max |golden|; null: it did not get so far. */
  deviation: number | null;
  /** A decode step of one sequence, the median. */
  stepMs: number | null;
  /** Bytes of a decode step that cross. */
  crossingBytes: number | null;
  /** What it took of the GPU's memory, with a session's own; null: the driver does not tell. */
  memoryBytes: number | null;
}

/** What a row has that got no further. */
export const NO_FIGURES = {
  ...{ tp: null, dtype: '', note: '', deviation: null, stepMs: null, crossingBytes: null, memoryBytes: null },
} as const;

/** float32 in any order of additions, with the same weights. */
export const FLOAT_TOLERANCE = 1e-3;
/** Attention in halves. */
const HALF_TOLERANCE = 1e-2;
const NEW_TOKENS = 8;
const SLOT_TOKENS = 128;

/** Five families at degree 1, one at 2, one in 4 bits. */
export const CASES: readonly CheckedCase[] = [
  ...['llama', 'mistral', 'qwen2', 'gpt2', 'phi3'].map((name) => ({ name, tp: 1, dtype: 'fp32' as const })),
  { name: 'llama', tp: 2, dtype: 'fp32' },
  { name: 'llama', tp: 1, dtype: 'int4' },
];

export interface CheckOptions {
  device: RemoteDevice;
  /** What is free of the GPU's memory; null: the driver does not tell. */
  freeBytes?: () => number | null;
  /** Folder for shards. */
  store: string;
  /** When there is no time for another case. */
  deadlineMs: number;
  nowMs?: () => number;
  cases?: readonly CheckedCase[];
  onRow?: (row: CheckedRow) => void;
  /** Runs one; absent: really. */
  check?: typeof checkCase;
}

/** Every case in turn; one that fails does not stop the others. */
export async function checkDevice(options: CheckOptions): Promise<CheckedRow[]> {
  const { cases = CASES, check = checkCase, deadlineMs, nowMs = Date.now, onRow } = options;
  const rows: CheckedRow[] = [];
  for (const one of cases) {
    const none = { ...NO_FIGURES, ...one };
    let row: CheckedRow;
    if (nowMs() >= deadlineMs) row = { ...none, verdict: 'not run: no time left' };
    else {
      try {
        row = await check(one, options);
      } catch (error) {
        row = { ...none, verdict: error instanceof Error ? error.message : String(error) };
      }
    }
    rows.push(row);
    onRow?.(row);
  }
  return rows;
}

export async function checkCase(
  one: CheckedCase,
  { device, freeBytes = () => null, store }: Pick<CheckOptions, 'device' | 'freeBytes' | 'store'>,
): Promise<CheckedRow> {
  const freeBefore = freeBytes();
  const { dtype, eightBit, tp } = one;
  const options = { folder: goldenFolder(one.name), outStore: store, tp, dtype, eightBit };
  const { shardFolder } = await partition({ ...options, device: device.deviceClass });
  const slots = { slotTokens: SLOT_TOKENS, device: (): Device => device };
  const run = greedyRuns(await createInProcessGroup(shardFolder, slots));
  const tolerance = device.deviceClass === 'cuda' ? HALF_TOLERANCE : FLOAT_TOLERANCE;
  let deviation = 0;
  let tokensEqual = true;
  const stepsMs: number[] = [];
  let crossingBytes = 0;
  for (const prompt of promptsOf(one)) {
    const expected = prompt.greedyIds;
    const before = device.counters.uploadedBytes + device.counters.downloadedBytes;
    const started = performance.now();
    const { ids, promptLogits } = await run(prompt.ids, expected.length, [prompt.ids.length]);
    stepsMs.push((performance.now() - started) / expected.length);
    crossingBytes = device.counters.uploadedBytes + device.counters.downloadedBytes - before;
    crossingBytes = Math.round(crossingBytes / expected.length);
    const seen = relativeDeviation(promptLogits, prompt.logits);
    // A deviation that is no number stays.
    deviation = seen <= deviation ? deviation : seen;
    tokensEqual &&= ids.join() === expected.join();
  }
  const freeAfter = freeBytes();
  const stepMs = stepsMs.sort((a, b) => a - b)[Math.floor(stepsMs.length / 2)] ?? null;
  return {
    ...{ ...NO_FIGURES, ...one, deviation, stepMs, crossingBytes },
    memoryBytes: freeBefore === null || freeAfter === null ? null : freeBefore - freeAfter,
    verdict: verdictOf(deviation, tokensEqual, tolerance),
  };
}

/** transformers' answers: with the checkpoint's weights, or with those that 4 or 8 bits leave of them. */
function promptsOf({ name, dtype, eightBit }: CheckedCase): QuantisedPrompt[] {
  if (dtype !== 'fp32') {
    const prompts = readQuantisedGolden({ name, dtype, ...(eightBit && { eightBit }) });
    assert(prompts, `no golden of ${name} in ${dtype}: test/golden/make_quantised.py`);
    return prompts;
  }
  const golden = readGolden(name);
  return golden.prompts.map((prompt) => ({
    ids: prompt.ids,
    greedyIds: prompt.greedyIds.slice(0, NEW_TOKENS),
    logits: golden.logits(prompt, prompt.ids.length - 1),
  }));
}

export function verdictOf(deviation: number, tokensEqual: boolean, tolerance = FLOAT_TOLERANCE): string {
  if (!(deviation <= tolerance)) return `logits are ${deviation.toExponential(1)} apart`;
  return tokensEqual ? 'right' : 'tokens differ';
}

export const isRight = ({ verdict }: CheckedRow): boolean => verdict === 'right';

/** The last line: how many are right, and which are not. */
export function checkSentence(rows: readonly CheckedRow[], steps: number, ms: number): string {
  const wrong = rows.filter((row) => !isRight(row));
  const which = wrong.length === 0 ? '' : `; not right: ${wrong.map(nameOf).join(', ')}`;
  return `${rows.length - wrong.length} of ${steps} steps are right, in ${Math.round(ms / 1000)} s${which}`;
}

const nameOf = ({ dtype, name, tp }: CheckedRow): string =>
  [name, dtype, tp === null ? '' : `tp ${tp}`].filter((part) => part !== '').join(' ');

/** While it runs. */
export const stepLine = (row: CheckedRow): string => `${nameOf(row)}: ${wordsOf(row)}`;

const wordsOf = ({ note, verdict }: CheckedRow): string => (note === '' ? verdict : `${verdict}: ${note}`);

/** Lines of a table for people; a column in which nothing stands is left out. */
export function checkTable(rows: readonly CheckedRow[]): string[] {
  const cells = rows.map((row) => [
    ...[row.name, row.dtype, String(row.tp ?? ''), row.deviation?.toExponential(1) ?? ''],
    ...[row.stepMs?.toFixed(1) ?? '', String(row.crossingBytes ?? '')],
    ...[row.memoryBytes === null ? '' : (row.memoryBytes / 2 ** 20).toFixed(0), wordsOf(row)],
  ]);
  const head = ['step', 'weights', 'tp', 'deviation', 'ms a token', 'bytes a token', 'MiB', 'result'];
  const told = head.map((_, column) => cells.some((row) => row[column] !== ''));
  const table = [head, ...cells].map((row) => row.filter((_, column) => told[column]));
  const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map((row) => row[column]!.length)));
  return table.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  );
}
