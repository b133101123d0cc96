/**
 * Linears in the layout of our own kernels: rows are collected until a panel of 32 outputs is whole, which is packed and written.
 *
 * In      one linear (or its pieces), TensorSource, the ranks' files
 * Out     its panels in all of them
 * Limits  memory: two chunks of rows, the panels of two, and the panels of all pieces but the first: a file is written from its start to its end.
 *         The first chunk of a linear is read while panels of the one before it are packed
 *         Whole panels are packed from where a chunk's rows lie; where a panel has rows of two chunks or parts, or padding, they are collected
 * Errors  ServingError CHECKPOINT_INVALID from the source or the quantiser
 * Note    what a rank holds of a row is quantised by itself: its columns are whole blocks, so that is the same as cutting the whole row
 */
import assert from 'node:assert/strict';
import { floatsOf } from '../checkpoint/float-widening.js';
import type { Halves, TensorSource } from '../checkpoint/tensor-source.js';
import { type Importance, importanceOf } from '../importance/importance.js';
import type { LinearItem, LinearPart } from '../plan/plan-item.js';
import { blockBytes, blocksPerRow, type QuantisedRows } from '../quantise/block-quantise.js';
import { codedBlocks } from '../quantise/coded-blocks.js';
import { nativePacker } from '../quantise/native-packer.js';
import { type PanelPacker, type RowPlace, referencePacker } from '../quantise/panel-packer.js';
import { PANEL_OUTPUTS, type PanelFormat, packPanel, panelCount } from '../quantise/panels.js';
import { ChunkReader } from './chunk-reader.js';
import { rowChunks } from './row-chunks.js';
import type { WeightsFile } from './weights-file.js';

const NOTHING = async (): Promise<void> => {};

/** Linears of one set of files, one after the other. */
export class PanelWriter {
  readonly #source: TensorSource;
  readonly #files: readonly WeightsFile[];
  readonly #importance: Importance | null;
  readonly #packer: PanelPacker;
  readonly #chunks: ChunkReader;
  /** Writes the last panels of the linear before. */
  #rest = NOTHING;

  constructor(
    source: TensorSource,
    files: readonly WeightsFile[],
    importance: Importance | null = null,
    packer: PanelPacker = nativePacker() ?? referencePacker,
  ) {
    this.#source = source;
    this.#files = files;
    this.#importance = importance;
    this.#packer = packer;
    this.#chunks = new ChunkReader(source, packer.packMany !== undefined);
  }

  /**
   * The last panels of a linear are written with the next one, or by `finish`.
   *
   * @param pieces of one linear, or the linear as a whole. Yields after every piece of work
   * @param afterPiece writes what lies behind a piece
   */
  async *write(
    pieces: readonly [LinearItem, ...LinearItem[]],
    afterPiece: (piece: LinearItem) => void,
  ): AsyncGenerator<void> {
    const [item] = pieces;
    const files = this.#files;
    const panels = pieces.map((piece) =>
      files.map((file, rank) => {
        const into = new PanelFile(piece, file);
        if (item.isCoded) return new CodedPanels(piece, rank, into);
        return new FloatPanels(piece, rank, into, this.#packer, importanceOf(this.#importance, item));
      }),
    );
    let firstRow = 0; // of the part, in a rank's fused weight
    for (const part of item.parts) {
      for (const [start, end] of rowChunks(part.rows, part.columns)) {
        const chunk = item.isCoded
          ? readCodes(item, part, this.#source, start, end)
          : this.#chunks.read(part, start, end);
        files.forEach((_, rank) => {
          const rows = part.rowSlices[rank]!;
          const [from, to] = [Math.max(start, rows.start), Math.min(end, rows.start + rows.count)];
          for (const ofRanks of panels) {
            for (let row = from; row < to; ) {
              const place = { row: firstRow + row - rows.start, name: part.source, sourceRow: row };
              row += ofRanks[rank]!.add(chunk as never, row - start, to - row, part.columns, place);
            }
          }
        });
        await this.finish();
        // The next chunk is read while panels of this one are packed.
        for (const of of panels.flat()) await of.settle();
        yield;
      }
      firstRow += part.rowsPerRank;
    }
    for (const of of panels.flat()) of.flush();
    this.#rest = async () => {
      for (const [index, ofRanks] of panels.entries()) {
        for (const of of ofRanks) await of.finish();
        afterPiece(pieces[index]!);
      }
    };
  }

  /** What was begun is written whole. */
  async finish(): Promise<void> {
    const rest = this.#rest;
    this.#rest = NOTHING;
    await rest();
  }
}

/** Panels that are packed in one go: some milliseconds. */
const MOST_TOGETHER = 16;

/** Where a row comes from, and where it goes. */
interface Place {
  /** On the rank. */
  row: number;
  /** Checkpoint tensor and row in it, for a message. */
  name: string;
  sourceRow: number;
}

/** Panels of one linear on one rank, written one after another. */
class PanelFile {
  readonly #item: LinearItem;
  readonly #file: WeightsFile;
  /** Lies behind another piece that is being written; null: goes to the file. */
  readonly #kept: Uint8Array | null;
  /** Panels that are being made, and how many of them were there at the last settle(). */
  readonly #coming: (Uint8Array | Promise<Uint8Array>)[] = [];
  #older = 0;
  #offset = 0;

  constructor(item: LinearItem, file: WeightsFile) {
    this.#item = item;
    this.#file = file;
    this.#kept = (item.piece?.index ?? 0) === 0 ? null : new Uint8Array(item.weight.bytes);
  }

  /** Behind those before it. */
  add(panel: Uint8Array | Promise<Uint8Array>): void {
    // Whoever waits for it sees its failure.
    if (panel instanceof Promise) panel.catch(() => undefined);
    this.#coming.push(panel);
  }

  /** Writes what had come before the last time. */
  async settle(): Promise<void> {
    for (; this.#older > 0; this.#older--) this.#write(await this.#coming.shift()!);
    this.#older = this.#coming.length;
  }

  #write(panel: Uint8Array): void {
    if (this.#kept === null) this.#file.write(this.#item.weight.offset + this.#offset, panel);
    else this.#kept.set(panel, this.#offset);
    this.#offset += panel.length;
  }

  async finish(): Promise<void> {
    for (const panel of this.#coming) this.#write(await panel);
    assert.equal(this.#offset, this.#item.weight.bytes, `bytes of ${this.#item.name}`);
    if (this.#kept !== null) this.#file.write(this.#item.weight.offset, this.#kept);
  }
}

/** Rows of floats, packed a panel at a time. */
class FloatPanels {
  readonly #item: LinearItem;
  readonly #panels: PanelFormat;
  readonly #first: number;
  readonly #count: number;
  readonly #file: PanelFile;
  readonly #packer: PanelPacker;
  #rows: Float32Array;
  /** Buffers of panels that are packed. */
  readonly #used: Float32Array[] = [];
  readonly #importance: Float32Array | null = null;
  readonly #places: (Place | null)[] = new Array<Place | null>(PANEL_OUTPUTS).fill(null);
  #panel = 0;

  /** @param importance of all columns of the sources */
  constructor(
    item: LinearItem,
    rank: number,
    file: PanelFile,
    packer: PanelPacker,
    importance: Float32Array | null,
  ) {
    assert(item.panels);
    this.#item = item;
    this.#panels = item.panels;
    const { start, count } = item.columnSlices[rank]!;
    this.#first = start;
    this.#count = count;
    this.#file = file;
    this.#packer = packer;
    this.#rows = new Float32Array(PANEL_OUTPUTS * item.inputs);
    if (item.format === null) return;
    // Padding counts for nothing.
    const columns = item.parts[0]?.columns ?? 0;
    this.#importance = new Float32Array(item.inputs);
    this.#place(importance ?? new Float32Array(columns).fill(1), this.#importance, 0);
  }

  /**
   * @param index of a row of the chunk, which has `columns` columns
   * @param count rows from it on; the first goes to `place`
   * @returns how many were taken
   */
  add(chunk: Float32Array | Halves, index: number, count: number, columns: number, place: Place): number {
    this.#flushBefore(Math.floor(place.row / PANEL_OUTPUTS));
    const whole = this.#packWhole(chunk, index, count, columns, place);
    if (whole > 0) return whole;
    const output = place.row % PANEL_OUTPUTS;
    this.#places[output] = place;
    const row = floatsOf(chunk, index * columns, (index + 1) * columns);
    this.#place(row, this.#rows, output * this.#item.inputs);
    return 1;
  }

  /** Whole panels, from where their rows lie. @returns rows of them; 0: there is none, or a row has to be put together */
  #packWhole(
    chunk: Float32Array | Halves,
    index: number,
    count: number,
    columns: number,
    place: Place,
  ): number {
    const { format, inputs, padding } = this.#item;
    const { packMany } = this.#packer;
    const panels = Math.min(MOST_TOGETHER, Math.floor(count / PANEL_OUTPUTS));
    if (!packMany || panels === 0 || place.row % PANEL_OUTPUTS !== 0) return 0;
    if (padding !== null || this.#count !== inputs) return 0;
    const from = index * columns + this.#first;
    const rows = {
      values:
        chunk instanceof Float32Array
          ? chunk.subarray(from)
          : { type: chunk.type, values: chunk.values.subarray(from) },
      stride: columns,
      count: panels * PANEL_OUTPUTS,
    };
    const placeOf: RowPlace = (output) => {
      return { name: place.name, row: place.sourceRow + output, column: this.#first };
    };
    this.#file.add(packMany(rows, format, this.#panels, inputs, placeOf, this.#importance));
    this.#panel += panels;
    return rows.count;
  }

  /** The rank's columns of a whole row. */
  #place(row: Float32Array, rows: Float32Array, into: number): void {
    const { padding } = this.#item;
    if (padding === null) {
      rows.set(row.subarray(this.#first, this.#first + this.#count), into);
      return;
    }
    // The slice is of padded columns, and whole units of them.
    const { padded, width } = padding;
    for (let unit = 0; unit < this.#count / padded; unit++) {
      const from = (this.#first / padded + unit) * width;
      rows.set(row.subarray(from, from + width), into + unit * padded);
    }
  }

  settle(): Promise<void> {
    return this.#file.settle();
  }

  /** All rows are there. */
  flush(): void {
    this.#flushBefore(panelCount(this.#item.outputs));
  }

  finish(): Promise<void> {
    return this.#file.finish();
  }

  /** Every panel before this one is whole; rows that nobody added are padding. */
  #flushBefore(panel: number): void {
    for (; this.#panel < panel; this.#panel++) {
      const { format, inputs } = this.#item;
      const places = this.#places.splice(0, PANEL_OUTPUTS, ...new Array<null>(PANEL_OUTPUTS).fill(null));
      const placeOf: RowPlace = (output) => {
        const place = places[output];
        return { name: place?.name ?? this.#item.name, row: place?.sourceRow ?? 0, column: this.#first };
      };
      const rows = this.#rows;
      const panel = this.#packer.pack(rows, format, this.#panels, inputs, placeOf, this.#importance);
      this.#file.add(panel instanceof Promise ? panel.finally(() => this.#used.push(rows)) : panel);
      if (!(panel instanceof Promise)) this.#used.push(rows);
      this.#rows = this.#used.pop()?.fill(0) ?? new Float32Array(rows.length);
    }
  }
}

/** Rows of a checkpoint's own codes. */
class CodedPanels {
  readonly #item: LinearItem;
  readonly #panels: PanelFormat;
  readonly #firstBlock: number;
  readonly #count: number;
  readonly #file: PanelFile;
  readonly #blocks: number;
  readonly #bytes: number;
  #rows: QuantisedRows;
  #panel = 0;

  constructor(item: LinearItem, rank: number, file: PanelFile) {
    assert(item.panels && item.format && item.padding === null);
    const { bits } = item.format;
    this.#item = item;
    this.#panels = item.panels;
    const { blockSize } = item.format;
    const { start, count } = item.columnSlices[rank]!;
    this.#firstBlock = start / blockSize;
    this.#count = blocksPerRow(count, blockSize);
    this.#file = file;
    this.#blocks = blocksPerRow(item.inputs, blockSize);
    this.#bytes = blockBytes(bits, blockSize);
    this.#rows = this.#noRows();
  }

  /** @param columns of the chunk's rows. @returns rows that were taken */
  add(chunk: Coded, index: number, _count: number, columns: number, { row }: Place): number {
    this.#flushBefore(Math.floor(row / PANEL_OUTPUTS));
    const blocks = blocksPerRow(columns, this.#panels.blockSize);
    const from = index * blocks + this.#firstBlock;
    const into = (row % PANEL_OUTPUTS) * this.#blocks;
    const bytes = this.#bytes;
    const end = from + this.#count;
    this.#rows.packed.set(chunk.packed.subarray(from * bytes, end * bytes), into * bytes);
    this.#rows.scales.set(chunk.scales.subarray(from, end), into);
    if (chunk.zeroPoints !== null) this.#rows.zeroPoints?.set(chunk.zeroPoints.subarray(from, end), into);
    return 1;
  }

  settle(): Promise<void> {
    return this.#file.settle();
  }

  /** All rows are there. */
  flush(): void {
    this.#flushBefore(panelCount(this.#item.outputs));
  }

  finish(): Promise<void> {
    return this.#file.finish();
  }

  #flushBefore(panel: number): void {
    for (; this.#panel < panel; this.#panel++) {
      this.#file.add(packPanel(this.#rows, this.#panels, this.#item.inputs));
      this.#rows = this.#noRows();
    }
  }

  /** Scale 0, and codes that are the zero point. */
  #noRows(): QuantisedRows {
    const count = PANEL_OUTPUTS * this.#blocks;
    const isFour = this.#panels.bits === 4;
    return {
      packed: new Uint8Array(count * this.#bytes).fill(isFour ? 0x88 : 0x80),
      scales: new Float32Array(count),
      zeroPoints: isFour ? new Float32Array(count).fill(8) : null,
    };
  }
}

type Coded = ReturnType<typeof codedBlocks>;

function readCodes(
  { format }: LinearItem,
  { columns, factor, source: name }: LinearPart,
  source: TensorSource,
  start: number,
  end: number,
): Coded {
  const info = source.coded?.get(name);
  assert(format && info && source.readCodes, `${name} is not in codes`);
  const coded = source.readCodes(name, start, end);
  return codedBlocks(coded, end - start, columns, info, format.blockSize, factor);
}
