/**
 * Compares written tensors with the checkpoint, row by row.
 *
 * In      manifest, ModelShape, TensorSource, the weights files
 * Out     nothing: the first difference is thrown
 * Why so  written apart from plan.ts and the store: it knows from the manifest what is where, and from the meaning of the
 *         model (which query head reads which KV head, which unit of the MLP is which) what ought to be there. Only the
 *         quantiser is shared: quantised slices must equal a quantisation of the whole tensor.
 * Limits  memory: one chunk of rows
 * Errors  ServingError SHARDS_INVALID naming tensor, rank and row
 */
import { closeSync, openSync, readSync } from 'node:fs';
import path from 'node:path';
import type { Manifest, TensorEntry } from '../../proto/manifest.js';
import type { TensorSource } from '../checkpoint/tensor-source.js';
import { type Importance, wholeName } from '../importance/importance.js';
import { hasHeadNorm, type ModelShape, valueDim } from '../plan/model-shape.js';
import {
  type BlockFormat,
  packZeroPoints,
  type QuantisedRows,
  quantiseRows,
} from '../quantise/block-quantise.js';
import { type CodedTensors, heldCodes } from '../quantise/coded-format.js';
import { codesOf, linearFormat } from '../quantise/weight-format.js';
import { expectedCodeBlocks } from './verify-codes.js';
import { invalid } from './verify-error.js';
import { fillFrom } from './verify-fill.js';
import { headRuns, latentRuns, queriesOf } from './verify-heads.js';
import { comparePanels, type HeadPadding, headPadding, type Run } from './verify-panels.js';
import { compareRope } from './verify-rope.js';

/** Rows are compared in pieces of about so many floats. */
const CHUNK_FLOATS = 1 << 20;

/** The weights files, open for reading. */
export class ShardFiles {
  bytesRead = 0;
  readonly #shared: number | null;
  readonly #ranks: number[];

  constructor(folder: string, manifest: Manifest) {
    this.#shared = manifest.shared ? openSync(path.join(folder, manifest.shared.path), 'r') : null;
    this.#ranks = manifest.ranks.map((rank) => openSync(path.join(folder, rank.weights.path), 'r'));
  }

  /** Rows [from, to) of a stored tensor; its first axis counts as rows. */
  rows(tensor: TensorEntry, rank: number, from: number, to: number): Uint8Array {
    const rowBytes = tensor.bytes / (tensor.shape[0] ?? 1);
    const bytes = new Uint8Array((to - from) * rowBytes);
    const fd = tensor.file === 'shared' ? this.#shared : this.#ranks[rank];
    if (fd === null || fd === undefined) throw invalid(`${tensor.name}: its file is not in the manifest`);
    const read = readSync(fd, bytes, 0, bytes.length, tensor.offset + from * rowBytes);
    if (read !== bytes.length) throw invalid(`${tensor.name} ends after the end of its file`);
    this.bytesRead += bytes.length;
    return bytes;
  }

  close(): void {
    for (const fd of [this.#shared, ...this.#ranks]) if (fd !== null) closeSync(fd);
  }
}

export class TensorVerifier {
  readonly #importance: Importance | null;
  readonly #manifest: Manifest;
  readonly #shape: ModelShape;
  readonly #source: TensorSource;
  /** What the shards have the checkpoint's own codes of. */
  readonly #coded: CodedTensors;
  readonly #files: ShardFiles;

  constructor(
    manifest: Manifest,
    shape: ModelShape,
    source: TensorSource,
    files: ShardFiles,
    importance: Importance | null,
  ) {
    this.#importance = importance;
    this.#manifest = manifest;
    this.#shape = shape;
    this.#source = source;
    this.#coded = heldCodes(source.coded ?? new Map(), manifest.weightFormat);
    this.#files = files;
  }

  /** Yields after every piece of work. */
  *compare(tensor: TensorEntry): Generator<void> {
    if (tensor.file === 'shared') {
      if (/^rope(-\d+)?\.(cos|sin)$/.test(tensor.name))
        yield compareRope(tensor, this.#shape, (row) => floatsOf(this.#files.rows(tensor, 0, row, row + 1)));
      else yield* this.#compareWhole(tensor);
      return;
    }
    if (/\.(scales|zero-points)$/.test(tensor.name)) return; // with their weight
    const runsOfRanks = this.#manifest.ranks.map((_, rank) => this.#runs(tensor, rank));
    this.#requireAllRows(tensor, runsOfRanks.flat());
    if (tensor.split === 'row') this.#requireAllColumns(tensor);
    for (const [rank, runs] of runsOfRanks.entries()) {
      if (tensor.name.endsWith('.bias')) this.#compareBias(tensor, rank, runs);
      else if (tensor.panels) yield* this.#comparePanels(tensor, rank, runs);
      else for (const run of runs) yield* this.#compareRun(tensor, rank, run);
      yield;
    }
  }

  /** Embedding: the stored bytes. Norms: float32. */
  *#compareWhole(tensor: TensorEntry): Generator<void> {
    const [name = ''] = tensor.sources;
    const [rows = 1] = tensor.shape;
    const step = Math.max(1, Math.floor((CHUNK_FLOATS * rows) / (tensor.bytes / 4)));
    for (let from = 0; from < rows; from += step) {
      const to = Math.min(rows, from + step);
      const stored = this.#files.rows(tensor, 0, from, to);
      const isConverted = tensor.name !== 'embedding';
      const factor = tensor.name.endsWith('.query-norm') ? this.#queryFactor(tensor) : 1;
      const expected = isConverted
        ? bytesOf(this.#source.readFloat32(name, from, to).map((value) => value * factor))
        : this.#source.readBytes(name, from, to);
      this.#requireEqual(tensor, 0, from, to, stored, expected);
      yield;
    }
  }

  /** What a rank's rows of a linear ought to be, from the meaning of the model. */
  #runs(tensor: TensorEntry, rank: number): Run[] {
    const rows = outputsOf(tensor);
    if (tensor.split === 'row' || tensor.split === 'rank-0') {
      return [{ source: tensor.sources[0] ?? null, firstSourceRow: 0, firstRow: 0, rows }];
    }
    const heightOf = (source: string): number => this.#source.tensors.get(source)?.shape[0] ?? 0;
    const latent = latentRuns(this.#shape, this.#manifest, rank, tensor, heightOf);
    if (latent !== null) return latent;
    if (!tensor.name.includes('.qkv.')) return this.#evenRuns(tensor, rank);
    return headRuns(this.#shape, this.#manifest, rank, tensor.sources);
  }

  /** Parts of equal height, each cut evenly; beyond the end of the whole there is padding. */
  #evenRuns(tensor: TensorEntry, rank: number): Run[] {
    const height = outputsOf(tensor) / tensor.sources.length;
    return tensor.sources.flatMap((source, part) => {
      const total = this.#source.tensors.get(source)?.shape[0] ?? 0;
      const firstSourceRow = rank * height;
      const real = Math.max(0, Math.min(height, total - firstSourceRow));
      const firstRow = part * height;
      return [
        { source, firstSourceRow, firstRow, rows: real },
        { source: null, firstSourceRow: 0, firstRow: firstRow + real, rows: height - real },
      ].filter((run) => run.rows > 0);
    });
  }

  /** No row of a source is left out. */
  #requireAllRows(tensor: TensorEntry, runs: readonly Run[]): void {
    for (const source of tensor.sources) {
      const total = this.#source.tensors.get(source)?.shape[0] ?? 0;
      const held = new Uint8Array(total);
      for (const run of runs) {
        if (run.source === source) held.fill(1, run.firstSourceRow, run.firstSourceRow + run.rows);
      }
      const missing = held.indexOf(0);
      if (missing !== -1) throw invalid(`${tensor.name}: row ${missing} of ${source} is on no rank`);
    }
  }

  /** Nor a column: ranks lie side by side. */
  #requireAllColumns(tensor: TensorEntry): void {
    const { packing, panels, piece, shape, sources } = tensor;
    const width = panels ? panels.inputs / this.#padding(tensor).growth : (shape[1] ?? 0);
    const held = this.#manifest.worldSize * (piece?.of ?? 1) * width * (packing?.blockSize ?? 1);
    const total = this.#source.tensors.get(sources[0] ?? '')?.shape[1] ?? 0;
    if (held < total) throw invalid(`${tensor.name}: column ${held} of ${sources[0]} is on no rank`);
  }

  #compareBias(tensor: TensorEntry, rank: number, runs: readonly Run[]): void {
    for (const { source, firstSourceRow, firstRow, rows } of runs) {
      const stored = this.#files.rows(tensor, rank, firstRow, firstRow + rows);
      const isZero = source === null || (tensor.split === 'rank-0' && rank > 0);
      const factor = source === null ? 1 : this.#factor(tensor, source);
      const expected = isZero
        ? new Float32Array(rows)
        : this.#source
            .readFloat32(source, firstSourceRow, firstSourceRow + rows)
            .map((value) => value * factor);
      this.#requireEqual(tensor, rank, firstRow, firstRow + rows, stored, bytesOf(expected));
    }
  }

  *#compareRun(tensor: TensorEntry, rank: number, run: Run): Generator<void> {
    const columns = this.#source.tensors.get(run.source ?? tensor.sources[0]!)?.shape[1] ?? 1;
    const step = Math.max(1, Math.floor(CHUNK_FLOATS / columns));
    for (let done = 0; done < run.rows; done += step) {
      const rows = Math.min(step, run.rows - done);
      const from = run.firstRow + done;
      const first = run.firstSourceRow + done;
      if (tensor.type === 'float32') {
        const values = run.source === null ? null : this.#whole(tensor, run.source, first, rows);
        this.#compareFloats(tensor, rank, from, rows, columns, values);
      } else {
        const format = this.#format(tensor);
        const blocks =
          run.source === null ? null : this.#blocks(tensor, format, run.source, first, rows, columns);
        this.#compareBlocks(tensor, format, rank, from, rows, blocks);
      }
      yield;
    }
  }

  #comparePanels(tensor: TensorEntry, rank: number, runs: readonly Run[]): Generator<void> {
    const floats = (source: string, firstRow: number, rows: number): Float32Array =>
      this.#padding(tensor).pad(this.#whole(tensor, source, firstRow, rows));
    return comparePanels({
      ...{ tensor, rank, runs, floats },
      read: (from, to) => this.#files.rows(tensor, rank, from, to),
      blocks: (source, firstRow, rows) => {
        const columns = this.#source.tensors.get(source)?.shape[1] ?? 1;
        const padded = columns * this.#padding(tensor).growth;
        const whole = (): Float32Array => floats(source, firstRow, rows);
        return this.#blocks(tensor, this.#format(tensor), source, firstRow, rows, padded, whole);
      },
      columns: this.#columns(tensor, rank, tensor.panels?.inputs ?? 0, this.#padding(tensor).growth),
    });
  }

  #padding(tensor: TensorEntry): HeadPadding {
    return headPadding(tensor, valueDim(this.#shape), this.#manifest.perRank.numHeads);
  }

  /** Whole rows of the checkpoint. */
  #whole(tensor: TensorEntry, source: string, firstRow: number, rows: number): Float32Array {
    const factor = this.#factor(tensor, source);
    const values = this.#source.readFloat32(source, firstRow, firstRow + rows);
    return factor === 1 ? values : values.map((value) => value * factor);
  }

  /** The query carries the scale of the scores, unless its norm does. */
  #factor(tensor: TensorEntry, source: string): number {
    const isQuery = /\.(qkv|query)\./.test(tensor.name) && source === tensor.sources[0];
    return isQuery && !hasHeadNorm(this.#shape, layerOf(tensor)) ? this.#queryFactor(tensor) : 1;
  }

  #queryFactor(tensor: TensorEntry): number {
    return this.#shape.queryScales[layerOf(tensor)] ?? Number.NaN;
  }

  #compareFloats(
    tensor: TensorEntry,
    rank: number,
    from: number,
    rows: number,
    columns: number,
    values: Float32Array | null,
  ): void {
    const [, width = 1] = tensor.shape;
    const expected = new Float32Array(rows * width);
    if (values) fillFrom(expected, width, values, columns, rows, this.#columns(tensor, rank, width));
    const stored = this.#files.rows(tensor, rank, from, from + rows);
    this.#requireEqual(tensor, rank, from, from + rows, stored, bytesOf(expected));
  }

  /** How the manifest's weight format says that a linear is packed. */
  #format(tensor: TensorEntry): BlockFormat {
    const { packing, panels } = tensor;
    const bits = panels?.bits ?? packing?.bits;
    const bytes = panels ? (panels.blockSize * panels.bits) / 8 : tensor.shape[2];
    const linear = tensor.name.replace(/(\.piece-\d+)?\.weight$/, '');
    const codes = codesOf(this.#coded, tensor.sources);
    const { weightFormat } = this.#manifest;
    const block = panels?.blockSize ?? packing?.blockSize ?? null;
    const format = linearFormat(weightFormat, linear, this.#shape.numLayers, block, codes);
    if (
      !format ||
      bits !== format.bits ||
      (panels && panels.zero === format.symmetric) ||
      format.blockSize * format.bits !== (bytes ?? 0) * 8
    ) {
      throw invalid(`${tensor.name} is not packed as the manifest's weight format says`);
    }
    return format;
  }

  /** Whole rows of the checkpoint as they ought to be packed. */
  #blocks(
    tensor: TensorEntry,
    format: BlockFormat,
    source: string,
    firstRow: number,
    rows: number,
    columns: number,
    whole = (): Float32Array => this.#whole(tensor, source, firstRow, rows),
  ): QuantisedRows {
    const info = this.#coded.get(source);
    if (!info || codesOf(this.#coded, tensor.sources) !== 'own') {
      const linear = wholeName(tensor.name.replace(/\.weight$/, ''));
      const { growth, pad } = this.#padding(tensor);
      const counts = this.#importance?.get(linear) ?? new Float32Array(columns / growth).fill(1);
      const padded = pad(counts);
      return quantiseRows(whole(), rows, columns, format, source, firstRow, padded);
    }
    const coded = this.#source.readCodes?.(source, firstRow, firstRow + rows);
    if (!coded) throw invalid(`${source} has no codes`);
    const factor = this.#factor(tensor, source);
    return expectedCodeBlocks(coded, info, { rows, columns, blockSize: format.blockSize, factor });
  }

  #compareBlocks(
    tensor: TensorEntry,
    format: BlockFormat,
    rank: number,
    from: number,
    rows: number,
    whole: QuantisedRows | null,
  ): void {
    const [, blocks = 1, bytes = 1] = tensor.shape;
    const scales = this.#beside(tensor, 'scales');
    const expected = new Uint8Array(rows * blocks * bytes);
    const expectedScales = new Float32Array(rows * blocks);
    const expectedZeroPoints = new Uint8Array(rows * blocks);
    if (whole) {
      const wholeBlocks = whole.scales.length / rows;
      const held = this.#columns(tensor, rank, blocks, 1 / format.blockSize);
      const heldBytes = { first: held.first * bytes, count: held.count * bytes };
      fillFrom(expected, blocks * bytes, whole.packed, wholeBlocks * bytes, rows, heldBytes);
      fillFrom(expectedScales, blocks, whole.scales, wholeBlocks, rows, held);
      if (whole.zeroPoints) fillFrom(expectedZeroPoints, blocks, whole.zeroPoints, wholeBlocks, rows, held);
    }
    const stored = this.#files.rows(tensor, rank, from, from + rows);
    this.#requireEqual(tensor, rank, from, from + rows, stored, expected);
    const storedScales = this.#files.rows(scales, rank, from, from + rows);
    this.#requireEqual(scales, rank, from, from + rows, storedScales, bytesOf(expectedScales));
    if (format.symmetric) return;
    const zeroPoints = this.#beside(tensor, 'zero-points');
    const storedZeroPoints = this.#files.rows(zeroPoints, rank, from, from + rows);
    const packed = packZeroPoints(expectedZeroPoints, rows, blocks, format.bits);
    this.#requireEqual(zeroPoints, rank, from, from + rows, storedZeroPoints, packed);
  }

  /** What is stored with a quantised weight. */
  #beside(weight: TensorEntry, kind: string): TensorEntry {
    const name = weight.name.replace(/weight$/, kind);
    const found = this.#manifest.tensors.find((tensor) => tensor.name === name);
    if (!found) throw invalid(`${weight.name} has no ${kind}`);
    return found;
  }

  /**
   * Columns (or blocks) of a rank: ranks lie side by side in a row-parallel weight, and so do the pieces of a rank. Of the output
   * projection they are those of its heads; beyond these, where other ranks have more, there is padding.
   *
   * @param width of the rank, or of its piece
   * @param share columns (or blocks) of a column of the checkpoint
   */
  #columns(tensor: TensorEntry, rank: number, width: number, share = 1): { first: number; count: number } {
    if (tensor.split !== 'row') return { first: 0, count: width };
    const { index, of } = tensor.piece ?? { index: 0, of: 1 };
    const { first, count } = queriesOf(this.#shape, this.#manifest.worldSize, rank);
    const { numHeads } = this.#manifest.perRank;
    const isEven = first === rank * numHeads && count === numHeads;
    if (isEven || !/\.attention-out\./.test(tensor.name)) {
      return { first: (rank * of + index) * width, count: width };
    }
    const perHead = valueDim(this.#shape) * share;
    return { first: first * perHead, count: count * perHead };
  }

  #requireEqual(
    tensor: TensorEntry,
    rank: number,
    from: number,
    to: number,
    stored: Uint8Array,
    expected: Uint8Array,
  ): void {
    if (Buffer.compare(stored, expected) === 0) return;
    const at = stored.findIndex((byte, index) => byte !== expected[index]);
    const row = from + Math.floor((at * (to - from)) / stored.length);
    throw invalid(`${tensor.name} of rank ${rank} differs from the checkpoint in row ${row}`);
  }
}

const layerOf = ({ name }: TensorEntry): number => Number(/^layer-(\d+)\./.exec(name)?.[1]);

/** Rows of a linear's stored tensor. */
const outputsOf = ({ panels, shape }: TensorEntry): number => panels?.outputs ?? shape[0] ?? 0;

function bytesOf(floats: Float32Array): Uint8Array {
  return new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength);
}

function floatsOf(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}
