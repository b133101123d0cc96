/**
 * What `--verify` expects of weights in the layout of our own kernels: unpacked by the reference, they are the rows of the checkpoint.
 *
 * In      a stored tensor on one rank, which rows of which checkpoint tensors it ought to hold; how to read both
 * Out     nothing: the first difference is thrown
 * Limits  memory: a chunk of rows
 * Errors  ServingError SHARDS_INVALID naming tensor, rank and row
 */
import type { TensorEntry } from '../../proto/manifest.js';
import { widened } from '../checkpoint/float-widening.js';
import { blockBytes, blocksPerRow, type QuantisedRows } from '../quantise/block-quantise.js';
import { roundToHalf } from '../quantise/half.js';
import {
  PANEL_OUTPUTS,
  type PanelFormat,
  panelBytes,
  panelCount,
  unpackFloatPanel,
  unpackPanel,
} from '../quantise/panels.js';
import { invalid } from './verify-error.js';

const CHUNK_FLOATS = 1 << 20;

/** Consecutive rows of a checkpoint tensor that lie together on a rank. `source` null: padding. */
export interface Run {
  source: string | null;
  firstSourceRow: number;
  firstRow: number;
  rows: number;
}

/** How much wider rows are with zeros among their columns, and what makes them so. */
export interface HeadPadding {
  growth: number;
  pad: (values: Float32Array) => Float32Array;
}

/** Zeros behind each head's columns: of the output projection, where heads are no whole blocks. @param heads of a rank */
export function headPadding(
  { name, panels, piece }: TensorEntry,
  headDim: number,
  heads: number,
): HeadPadding {
  const isHeads = /\.attention-out(\.piece-\d+)?\.weight$/.test(name);
  const width = isHeads && panels ? (panels.inputs * (piece?.of ?? 1)) / heads : headDim;
  if (width === headDim) return { growth: 1, pad: (values) => values };
  const pad = (values: Float32Array): Float32Array =>
    Float32Array.from({ length: (values.length / headDim) * width }, (_, index) =>
      index % width < headDim ? values[Math.floor(index / width) * headDim + (index % width)]! : 0,
    );
  return { growth: width / headDim, pad };
}

/** What is compared, and what it is compared with. */
export interface PanelComparison {
  tensor: TensorEntry;
  rank: number;
  runs: readonly Run[];
  /** Bytes of the stored tensor. */
  read: (from: number, to: number) => Uint8Array;
  /** Whole rows of the checkpoint, zeros between their columns where the plan says so. */
  floats: (source: string, firstRow: number, rows: number) => Float32Array;
  blocks: (source: string, firstRow: number, rows: number) => QuantisedRows;
  /** That the rank (or its piece) holds of these rows; beyond them there is padding. */
  columns: { first: number; count: number };
}

/** Yields after every piece of work. */
export function* comparePanels(comparison: PanelComparison): Generator<void> {
  const { rank, read, tensor } = comparison;
  const { panels } = tensor;
  if (panels === undefined) throw invalid(`${tensor.name} has no panels`);
  const bytes = panelBytes(panels, panels.inputs);
  const count = panelCount(panels.outputs);
  if (tensor.bytes !== bytes * count) throw invalid(`${tensor.name} is not as long as its panels`);
  const step = Math.max(1, Math.floor(CHUNK_FLOATS / (PANEL_OUTPUTS * panels.inputs)));
  for (let first = 0; first < count; first += step) {
    const last = Math.min(count, first + step);
    const stored = read(first * bytes, last * bytes);
    const expected = panels.blockSize === 0 ? floatRows : quantisedRows;
    for (const { name, seen, wanted, rowLength } of expected(comparison, panels, stored, first, last)) {
      const at = seen.findIndex((value, index) => !Object.is(value, wanted[index]));
      if (at === -1) continue;
      const row = first * PANEL_OUTPUTS + Math.floor(at / rowLength);
      throw invalid(`${tensor.name} of rank ${rank} differs from the checkpoint in row ${row} (${name})`);
    }
    yield;
  }
}

/** What is seen of some panels, and what ought to be. */
interface Expected {
  name: string;
  seen: Uint8Array | Float32Array;
  wanted: Uint8Array | Float32Array;
  /** Numbers of one row. */
  rowLength: number;
}

type Sizes = NonNullable<TensorEntry['panels']>;

function floatRows(
  { columns, floats, runs }: PanelComparison,
  panels: Sizes,
  stored: Uint8Array,
  first: number,
  last: number,
): Expected[] {
  const { inputs } = panels;
  const rows = (last - first) * PANEL_OUTPUTS;
  const seen = new Float32Array(rows * inputs);
  eachPanel(panels, stored, (panel, index) => {
    seen.set(unpackFloatPanel(panel, panels, inputs), index * PANEL_OUTPUTS * inputs);
  });
  const wanted = new Float32Array(rows * inputs);
  for (const { row, source, sourceRow, count } of within(runs, first * PANEL_OUTPUTS, rows)) {
    const whole = floats(source, sourceRow, count);
    fillRows(wanted, inputs, row, whole, whole.length / count, count, columns);
  }
  return [{ name: 'weights', seen, wanted: asStored(wanted, panels), rowLength: inputs }];
}

/** As far as 16 bits hold it. */
function asStored(values: Float32Array, { bfloat, bits }: PanelFormat): Float32Array {
  if (bits === 32) return values;
  if (!bfloat) return values.map(roundToHalf);
  const bits32 = new Uint32Array(values.buffer);
  return widened(
    Uint16Array.from(bits32, (word) => (word + 0x7fff + ((word >>> 16) % 2)) >>> 16),
    true,
  );
}

function quantisedRows(
  { blocks: quantise, columns, runs }: PanelComparison,
  panels: Sizes,
  stored: Uint8Array,
  first: number,
  last: number,
): Expected[] {
  const { bits, blockSize, inputs, zero } = panels;
  if (bits !== 4 && bits !== 8) throw invalid(`panels of blocks with ${bits} bits`);
  const blocks = blocksPerRow(inputs, blockSize);
  const bytes = blockBytes(bits, blockSize);
  const rows = (last - first) * PANEL_OUTPUTS;
  const of = (): Required<QuantisedRows> & { zeroPoints: Float32Array } => ({
    packed: new Uint8Array(rows * blocks * bytes).fill(bits === 4 ? 0x88 : 0x80),
    scales: new Float32Array(rows * blocks),
    zeroPoints: new Float32Array(rows * blocks).fill(2 ** (bits - 1)),
  });
  const [seen, wanted] = [of(), of()];
  eachPanel(panels, stored, (panel, index) => {
    const unpacked = unpackPanel(panel, panels, inputs);
    const block = index * PANEL_OUTPUTS * blocks;
    seen.packed.set(unpacked.packed, block * bytes);
    seen.scales.set(unpacked.scales, block);
    if (unpacked.zeroPoints) seen.zeroPoints.set(unpacked.zeroPoints, block);
  });
  for (const { row, source, sourceRow, count } of within(runs, first * PANEL_OUTPUTS, rows)) {
    const whole = quantise(source, sourceRow, count);
    const width = whole.scales.length / count;
    const held = { first: columns.first / blockSize, count: blocksPerRow(columns.count, blockSize) };
    const heldBytes = { first: held.first * bytes, count: held.count * bytes };
    fillRows(wanted.packed, blocks * bytes, row, whole.packed, width * bytes, count, heldBytes);
    fillRows(wanted.scales, blocks, row, whole.scales, width, count, held);
    if (!whole.zeroPoints) continue;
    const zeroPoints = Float32Array.from(whole.zeroPoints);
    fillRows(wanted.zeroPoints, blocks, row, zeroPoints, width, count, held);
  }
  return [
    { name: 'codes', seen: seen.packed, wanted: wanted.packed, rowLength: blocks * bytes },
    { name: 'scales', seen: seen.scales, wanted: wanted.scales.map(roundToHalf), rowLength: blocks },
    ...(zero
      ? [{ name: 'zero points', seen: seen.zeroPoints, wanted: wanted.zeroPoints, rowLength: blocks }]
      : []),
  ];
}

function eachPanel(
  panels: Sizes,
  stored: Uint8Array,
  visit: (panel: Uint8Array, index: number) => void,
): void {
  const bytes = panelBytes(panels, panels.inputs);
  for (let index = 0; index < stored.length / bytes; index++) {
    visit(stored.subarray(index * bytes, (index + 1) * bytes), index);
  }
}

/** Parts of the runs that lie in `rows` rows from `firstRow` on; `row` counts from there. */
function* within(
  runs: readonly Run[],
  firstRow: number,
  rows: number,
): Generator<{ source: string; sourceRow: number; row: number; count: number }> {
  for (const run of runs) {
    const from = Math.max(firstRow, run.firstRow);
    const to = Math.min(firstRow + rows, run.firstRow + run.rows);
    if (from >= to || run.source === null) continue;
    const sourceRow = run.firstSourceRow + from - run.firstRow;
    yield { source: run.source, sourceRow, row: from - firstRow, count: to - from };
  }
}

/** A range of columns of `from`, as far as they go, into rows of `into`, from its `firstRow`. */
function fillRows<T extends Uint8Array | Float32Array>(
  into: T,
  width: number,
  firstRow: number,
  from: T,
  fromWidth: number,
  rows: number,
  { first, count }: { first: number; count: number },
): void {
  for (let row = 0; row < rows; row++) {
    const start = row * fromWidth + Math.min(first, fromWidth);
    const end = row * fromWidth + Math.min(first + count, fromWidth);
    into.set(from.subarray(start, end), (firstRow + row) * width);
  }
}
