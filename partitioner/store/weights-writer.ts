/**
 * Streams a checkpoint into the weights files: every tensor is read once, from its first row to its last, and cut for all
 * ranks on the way.
 *
 * In      Plan, TensorSource, the open files
 * Out     filled files, as long as the plan says
 * Limits  memory: a chunk of rows (CHUNK_FLOATS), and of one linear the scales, the zero points and, where it is cut into pieces, the
 *         packed weights of all pieces but the first: a file is written from its start to its end
 * Errors  ServingError CHECKPOINT_INVALID from the source or the quantiser; the caller's AbortSignal's reason
 * Note    quantised padding is zero bytes with scale and zero point zero: exactly zero, whatever the level
 */
import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ropeRows, ropeTable } from '../architectures/rope-table.js';
import type { TensorSource } from '../checkpoint/tensor-source.js';
import type { Importance } from '../importance/importance.js';
import type { Plan } from '../plan/plan.js';
import type { CopyItem, LinearItem, LinearPart, PlanItem, RopeItem } from '../plan/plan-item.js';
import type { Slice } from '../plan/rank-slices.js';
import {
  type BlockFormat,
  blockBytes,
  blocksPerRow,
  packZeroPoints,
  type QuantisedRows,
  quantiseRows,
} from '../quantise/block-quantise.js';
import { codedBlocks } from '../quantise/coded-blocks.js';
import { sliceColumns } from '../quantise/slice.js';
import { PanelWriter } from './panel-writer.js';
import { rowChunks, scaled } from './row-chunks.js';
import type { WeightsFile } from './weights-file.js';

export interface OpenFiles {
  shared: WeightsFile;
  ranks: readonly WeightsFile[];
}

export interface WriteOptions {
  /** Called after every chunk with the bytes written so far, over all files. */
  onProgress?: ((doneBytes: number) => void) | undefined;
  signal?: AbortSignal | undefined;
  /** How much every linear's inputs count; null: all alike. */
  importance?: Importance | null | undefined;
}

export async function writeWeights(
  plan: Plan,
  source: TensorSource,
  files: OpenFiles,
  { onProgress, signal, importance = null }: WriteOptions,
): Promise<void> {
  const all = [files.shared, ...files.ranks];
  const panels = new PanelWriter(source, files.ranks, importance);
  const report = (): void => onProgress?.(all.reduce((sum, file) => sum + file.position, 0));
  for (const items of withPieces(plan.items)) {
    const [item] = items;
    // A rank's file is written from its start to its end.
    if (item.kind === 'linear' && item.panels === null) await panels.finish();
    for await (const _ of writeItems(plan, items, source, files, panels)) {
      report();
      await nextTurn(); // a signal, a closed pipe, a progress bar: they all need a turn
      signal?.throwIfAborted();
    }
  }
  await panels.finish();
  files.shared.padTo(plan.sharedBytes);
  for (const file of files.ranks) file.padTo(plan.rankBytes);
  report();
}

/** Items one by one, but the pieces of a linear together. */
function* withPieces(items: readonly PlanItem[]): Generator<[PlanItem, ...PlanItem[]]> {
  for (let start = 0; start < items.length; ) {
    const item = items[start]!;
    const count = item.kind === 'linear' ? (item.piece?.of ?? 1) : 1;
    yield [item, ...items.slice(start + 1, start + count)];
    start += count;
  }
}

function writeItems(
  plan: Plan,
  [item, ...others]: [PlanItem, ...PlanItem[]],
  source: TensorSource,
  files: OpenFiles,
  panels: PanelWriter,
): Iterable<void> | AsyncIterable<void> {
  switch (item.kind) {
    case 'copy':
      return writeCopy(item, source, files.shared);
    case 'rope':
      return writeRope(plan, item, files.shared);
    case 'linear': {
      const pieces: [LinearItem, ...LinearItem[]] = [
        item,
        ...others.filter((other) => other.kind === 'linear'),
      ];
      if (item.panels === null) return writeLinear(pieces, source, files.ranks);
      const afterPiece = (piece: LinearItem): void => writeBias(piece, source, files.ranks);
      return panels.write(pieces, afterPiece);
    }
  }
}

function* writeCopy({ weight, ...item }: CopyItem, source: TensorSource, file: WeightsFile): Generator<void> {
  const [rows = 1, ...rest] = weight.shape;
  const rowFloats = rest.reduce((product, size) => product * size, 1);
  const rowBytes = weight.bytes / rows;
  for (const [start, end] of rowChunks(rows, rowFloats)) {
    const bytes =
      weight.type === 'float32'
        ? asBytes(scaled(source.readFloat32(item.source, start, end), item.factor))
        : source.readBytes(item.source, start, end);
    file.write(weight.offset + start * rowBytes, bytes);
    yield;
  }
}

function* writeRope(plan: Plan, { rope, part, weight }: RopeItem, file: WeightsFile): Generator<void> {
  const { contextLength } = plan.shape;
  const columns = rope.rotaryDim / 2;
  for (const [start, end] of rowChunks(ropeRows(rope, contextLength), columns)) {
    const { cos, sin } = ropeTable(rope, contextLength, start, end);
    file.write(weight.offset + start * columns * 4, asBytes(part === 'cos' ? cos : sin));
    yield;
  }
}

/** @param pieces of one linear, or the linear as a whole */
function* writeLinear(
  pieces: readonly [LinearItem, ...LinearItem[]],
  source: TensorSource,
  files: readonly WeightsFile[],
): Generator<void> {
  const [item] = pieces;
  const { format } = item;
  const writers = pieces.map((piece) => files.map((file, rank) => new PieceWriter(piece, rank, file)));
  let firstRow = 0; // of the part, in a rank's fused weight
  for (const part of item.parts) {
    for (const [start, end] of rowChunks(part.rows, part.columns)) {
      const chunk =
        format === null
          ? new Fp32Rows(scaled(source.readFloat32(part.source, start, end), part.factor), part.columns)
          : new QuantisedPiece(quantised(item, format, part, source, start, end), format, part);
      files.forEach((_, rank) => {
        const rows = part.rowSlices[rank]!;
        const from = Math.max(start, rows.start);
        const to = Math.min(end, rows.start + rows.count);
        if (from >= to) return;
        const row = firstRow + from - rows.start;
        for (const ofRanks of writers) ofRanks[rank]!.write(chunk, from - start, to - start, row);
      });
      yield;
    }
    firstRow += part.rowsPerRank;
  }
  for (const [index, ofRanks] of writers.entries()) {
    for (const writer of ofRanks) writer.finish();
    writeBias(pieces[index]!, source, files);
    yield;
  }
}

/** One rank's part of a linear, or of a piece of it. */
class PieceWriter {
  readonly #item: LinearItem;
  readonly #columns: Slice;
  readonly #file: WeightsFile;
  readonly #rowBytes: number;
  readonly #blocks: number;
  readonly #scales: Float32Array;
  readonly #zeroPoints: Uint8Array;
  /** Weights that lie behind those of a piece that is being written; null: they go to the file. */
  readonly #kept: Uint8Array | null;

  constructor(item: LinearItem, rank: number, file: WeightsFile) {
    const { weight, scales, zeroPoints } = item;
    this.#item = item;
    this.#columns = item.columnSlices[rank]!;
    this.#file = file;
    this.#rowBytes = weight.bytes / item.outputs;
    this.#blocks = scales?.shape[1] ?? 0;
    this.#scales = new Float32Array(item.outputs * this.#blocks);
    this.#zeroPoints = new Uint8Array(zeroPoints ? item.outputs * this.#blocks : 0);
    this.#kept = (item.piece?.index ?? 0) === 0 ? null : new Uint8Array(weight.bytes);
  }

  /** Rows [from, to) of the chunk. @param row that they begin with on this rank */
  write(chunk: Fp32Rows | QuantisedPiece, from: number, to: number, row: number): void {
    const weights = chunk.weights(from, to, this.#columns, this.#item);
    if (this.#kept === null) this.#file.write(this.#item.weight.offset + row * this.#rowBytes, weights);
    else this.#kept.set(weights, row * this.#rowBytes);
    if (chunk instanceof Fp32Rows) return;
    this.#scales.set(chunk.scales(from, to, this.#columns, this.#item), row * this.#blocks);
    const zeros = chunk.zeroPoints(from, to, this.#columns, this.#item);
    if (zeros) this.#zeroPoints.set(zeros, row * this.#blocks);
  }

  finish(): void {
    const { format, outputs, scales, weight, zeroPoints } = this.#item;
    if (this.#kept !== null) this.#file.write(weight.offset, this.#kept);
    if (scales) this.#file.write(scales.offset, asBytes(this.#scales));
    if (zeroPoints && format) {
      const packed = packZeroPoints(this.#zeroPoints, outputs, this.#blocks, format.bits);
      this.#file.write(zeroPoints.offset, packed);
    }
  }
}

/** Rows [start, end) of a part: the checkpoint's own codes, or its floats quantised. */
function quantised(
  { isCoded }: LinearItem,
  format: BlockFormat,
  { columns, factor, source: name }: LinearPart,
  source: TensorSource,
  start: number,
  end: number,
): QuantisedRows {
  if (!isCoded) {
    const values = scaled(source.readFloat32(name, start, end), factor);
    return quantiseRows(values, end - start, columns, format, name, start);
  }
  const info = source.coded?.get(name);
  assert(info && source.readCodes, `${name} is not in codes`);
  const coded = source.readCodes(name, start, end);
  return codedBlocks(coded, end - start, columns, info, format.blockSize, factor);
}

/** One vector a linear: its parts below each other; for a row-parallel one zero except on rank 0, so that it is added once. */
function writeBias(item: LinearItem, source: TensorSource, files: readonly WeightsFile[]): void {
  const { bias } = item;
  if (!bias) return;
  files.forEach((file, rank) => {
    const vector = new Float32Array(item.outputs);
    let firstRow = 0;
    for (const part of item.parts) {
      const rows = part.rowSlices[rank]!;
      if (part.biasSource !== null && (item.split !== 'row' || rank === 0)) {
        const values = source.readFloat32(part.biasSource, rows.start, rows.start + rows.count);
        vector.set(scaled(values, part.factor), firstRow);
      }
      firstRow += part.rowsPerRank;
    }
    file.write(bias.offset, asBytes(vector));
  });
}

/** Some whole rows of a weight in float32. */
class Fp32Rows {
  readonly #values: Float32Array;
  readonly #columns: number;

  constructor(values: Float32Array, columns: number) {
    this.#values = values;
    this.#columns = columns;
  }

  weights(from: number, to: number, columns: Slice, item: LinearItem): Uint8Array {
    return asBytes(cut(this.#values, this.#columns, from, to, columns, item.inputs));
  }
}

/** The same rows quantised: whole, before anything is cut. */
class QuantisedPiece {
  readonly #quantised: QuantisedRows;
  readonly #format: BlockFormat;
  readonly #blocks: number;

  constructor(quantised: QuantisedRows, format: BlockFormat, part: LinearPart) {
    this.#quantised = quantised;
    this.#format = format;
    this.#blocks = blocksPerRow(part.columns, format.blockSize);
  }

  weights(from: number, to: number, columns: Slice, item: LinearItem): Uint8Array {
    const { start, count, width } = this.#blockSlice(columns, item);
    const bytes = blockBytes(this.#format.bits, this.#format.blockSize);
    const slice = { start: start * bytes, count: count * bytes };
    return cut(this.#quantised.packed, this.#blocks * bytes, from, to, slice, width * bytes);
  }

  scales(from: number, to: number, columns: Slice, item: LinearItem): Float32Array {
    const { start, count, width } = this.#blockSlice(columns, item);
    return cut(this.#quantised.scales, this.#blocks, from, to, { start, count }, width);
  }

  /** One a byte; null: symmetric. */
  zeroPoints(from: number, to: number, columns: Slice, item: LinearItem): Uint8Array | null {
    const { zeroPoints } = this.#quantised;
    if (zeroPoints === null) return null;
    const { start, count, width } = this.#blockSlice(columns, item);
    // Our own kernels alone take zero points that are no codes.
    assert(zeroPoints instanceof Uint8Array);
    return cut(zeroPoints, this.#blocks, from, to, { start, count }, width);
  }

  /** A slice of columns, which begins on a block's border, in blocks; and the blocks a rank has in all. */
  #blockSlice(columns: Slice, item: LinearItem): Slice & { width: number } {
    const { blockSize } = this.#format;
    return {
      start: columns.count === 0 ? 0 : columns.start / blockSize,
      count: blocksPerRow(columns.count, blockSize),
      width: blocksPerRow(item.inputs, blockSize),
    };
  }
}

/**
 * Rows [from, to) and a slice of the columns of a matrix, padded with zeros to `width` columns.
 *
 * @param rowLength columns of the matrix
 */
function cut<T extends Uint8Array | Float32Array>(
  matrix: T,
  rowLength: number,
  from: number,
  to: number,
  columns: Slice,
  width: number,
): T {
  const rows = matrix.subarray(from * rowLength, to * rowLength) as T;
  if (columns.count === rowLength && width === rowLength) return rows;
  const slice = sliceColumns(rows, to - from, rowLength, columns.start, columns.start + columns.count);
  if (columns.count === width) return slice;
  const padded = new (matrix.constructor as new (length: number) => T)((to - from) * width);
  for (let row = 0; row < to - from; row++) {
    padded.set(slice.subarray(row * columns.count, (row + 1) * columns.count), row * width);
  }
  return padded;
}

function asBytes(array: Float32Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
