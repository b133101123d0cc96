/**
 * One rank's passes over its linears, in a thread of its own (main.ts).
 *
 * In      RankWork
 * Out     PassTimes
 * How     a panel of noise is quantised once a format and repeated: speed does not depend on what weights are
 */
import assert from 'node:assert/strict';
import { parentPort, workerData } from 'node:worker_threads';
import koffi from 'koffi';

export interface BenchLinear {
  bits: number;
  block: number;
  zero: boolean;
  bfloat: boolean;
  wide: boolean;
  inputs: number;
  outputs: number;
  bytes: number;
}

export interface RankWork {
  library: string;
  linears: BenchLinear[];
  rows: number[];
  rounds: number;
  variant: number | null;
  /** Threads that have come to a pass, over all passes. */
  turns: Int32Array;
  threads: number;
}

export interface PassTimes {
  variant: string;
  /** [rows][round] */
  ms: number[][];
}

const work = workerData as RankWork;
const library = koffi.load(work.library);
const quantise = library.func('ss_quantise', 'int32_t', [
  ...['const float *', 'int32_t', 'int64_t', 'int64_t', 'int64_t', 'int32_t', 'int32_t', 'int32_t'],
  ...['const float *', 'uint8_t *', 'int64_t', 'int64_t', 'int64_t *'],
]);
const linear = library.func('ss_linear', 'int32_t', [
  ...['const float *', 'int64_t', 'const uint8_t *', 'const float *', 'float *', 'int64_t', 'int64_t'],
  ...['int64_t', 'int64_t', 'int32_t', 'int32_t', 'int32_t', 'int32_t', 'int64_t', 'int64_t'],
]);
const useVariant = library.func('int32_t ss_use_variant(int32_t)');
const variant = library.func('int32_t ss_variant()');
const variantName = library.func('const char *ss_variant_name(int32_t)');

const PANEL_OUTPUTS = 32;
const flagsOf = ({ zero, bfloat, wide }: BenchLinear): number =>
  (zero ? 1 : 0) | (bfloat ? 2 : 0) | (wide ? 8 : 0);
const noise = (length: number): Float32Array =>
  Float32Array.from({ length }, (_, index) => Math.sin(index * 12.9898) * 0.05);

function weightOf(of: BenchLinear): Uint8Array {
  const panels = Math.ceil(of.outputs / PANEL_OUTPUTS);
  const panel = new Uint8Array(of.bytes / panels);
  const rows = noise(PANEL_OUTPUTS * of.inputs);
  const sizes = [of.inputs, PANEL_OUTPUTS, of.inputs, of.bits, of.block, flagsOf(of)];
  assert.equal(quantise(rows, 0, ...sizes, null, panel, 0, 1, new BigInt64Array(1)), 0, 'ss_quantise');
  const weight = new Uint8Array(of.bytes);
  for (let at = 0; at < weight.length; at += panel.length) weight.set(panel, at);
  return weight;
}

/** All threads go on together. */
function meet(round: number): void {
  const { threads, turns } = work;
  Atomics.add(turns, 0, 1);
  while (Atomics.load(turns, 0) < threads * round);
}

if (work.variant !== null) assert.equal(useVariant(work.variant), 0, `variant ${work.variant}`);
const weights = work.linears.map(weightOf);
const most = Math.max(...work.rows);
const x = noise(most * Math.max(...work.linears.map(({ inputs }) => inputs)));
const y = new Float32Array(most * Math.max(...work.linears.map(({ outputs }) => outputs)));
const ms = work.rows.map((): number[] => []);
let round = 0;
for (let turn = -1; turn < work.rounds; turn++) {
  for (const [index, rows] of work.rows.entries()) {
    meet(++round);
    const started = performance.now();
    for (const [at, of] of work.linears.entries()) {
      const { block, bits, inputs, outputs } = of;
      const sizes = [outputs, rows, inputs, outputs, bits, block, flagsOf(of), 1];
      linear(x, inputs, weights[at], null, y, ...sizes, 0, Math.ceil(outputs / PANEL_OUTPUTS));
    }
    // The first turn warms up.
    if (turn >= 0) ms[index]!.push(performance.now() - started);
  }
}
const times: PassTimes = { variant: variantName(variant()) as string, ms };
parentPort?.postMessage(times);
