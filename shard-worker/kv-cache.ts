/**
 * This rank's keys and values, by slot.
 *
 * A slot holds one sequence: for each layer and KV head a plane of keys and one of values (or keys alone, which are the values too), `slotTokens` rows each, row-major
 * [slotTokens, headDim] of floats; or of halves, or of signed bytes with a float behind them that they are multiplied by, which only our own kernels read and write. A head's rows lie side by side because attention of one token is bound by reading them
 * (README). Where a model has sinks there is room for one row more before a plane's first, row −1 (attention.ts). A slot is
 * address space for its full length, and memory only for the rows that were written; closing it gives the pages
 * back. A slot stays open as long as its rows are of use, also when its sequence has ended. Rows that were not written are zeros.
 *
 * Limits  maxSlots slots; slotTokens rows each
 * Errors  assertions: the coordinator never names a slot that is not free or a row past the end
 */
import assert from 'node:assert/strict';
import { kvRowBytes } from '../proto/kv-rows.js';
import type { Manifest } from '../proto/manifest.js';
import type { WorkerLaunch } from '../proto/worker-launch.js';
import type { HostDevice, HostMemory } from './device/device.js';
import { wholePages } from './native/libc.js';
import { type SlotState, Slots } from './slots.js';

/** What the cache holds: floats, halves, or bytes and a scale a row. */
export type KvType = NonNullable<WorkerLaunch['kvType']>;

/** How a plane is looked at: in its numbers, so that rows can be copied and cleared. */
const VIEWS = { fp32: Float32Array, fp16: Uint16Array, int8: Uint8Array } as const;

/** Sizes of a slot's rows. */
export interface KvCacheShape {
  numLayers: number;
  /** This rank's. */
  numKvHeads: number;
  headDim: number;
  /** Rows of a plane before its first, 0 or 1. */
  leadingRows?: number;
  /** A value is its key: there are planes of keys alone. */
  valuesAreKeys?: boolean;
}

export interface KvCacheOptions extends KvCacheShape {
  device: HostDevice;
  maxSlots: number;
  slotTokens: number;
  /** Absent: fp32. */
  type?: KvType;
}

/** Plane of a layer and KV head: keys or values. */
export const Plane = { KEY: 0, VALUE: 1 } as const;
export type Plane = (typeof Plane)[keyof typeof Plane];

/** What the cache of a rank is made for. */
export function kvCacheShape({ attend, model, perRank }: Manifest): KvCacheShape {
  return {
    numLayers: attend.keysIn === 'slot' ? model.numLayers : 0,
    numKvHeads: perRank.numKvHeads,
    headDim: perRank.headDim,
    leadingRows: attend.sinkColumn === undefined ? 0 : 1,
    valuesAreKeys: attend.valuesAreKeys === true,
  };
}

interface Slot extends SlotState {
  memory: HostMemory;
  /** A view of each plane, by its numbers. */
  planes: (Float32Array | Uint16Array | Uint8Array)[];
}

export class KvCache extends Slots<Slot> {
  readonly numLayers: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly type: KvType;
  /** Whole pages, so that a plane's rows are given back without its neighbour's. */
  readonly planeBytes: number;
  readonly #device: HostDevice;
  readonly #leadingRows: number;
  /** A layer's and KV head's. */
  readonly #planesOfHead: 1 | 2;
  /** A plane's. */
  readonly rowBytes: number;

  constructor(options: KvCacheOptions) {
    super(options.maxSlots, options.slotTokens);
    this.#device = options.device;
    this.numLayers = options.numLayers;
    this.numKvHeads = options.numKvHeads;
    this.headDim = options.headDim;
    this.#leadingRows = options.leadingRows ?? 0;
    this.#planesOfHead = options.valuesAreKeys ? 1 : 2;
    this.type = options.type ?? 'fp32';
    this.rowBytes = kvRowBytes(this.type, options.headDim);
    this.planeBytes = wholePages((this.#leadingRows + options.slotTokens) * this.rowBytes);
  }

  override close(index: number): void {
    const { memory } = this.opened(index);
    memory.discard(0, memory.bytes);
    super.close(index);
  }

  /**
   * Write `count` rows, taken from `source` at its row `sourceRow`, to the slot's rows `row` … of a layer's keys or values.
   *
   * @param source float32 [tokens, KV heads · headDim]
   */
  write(
    index: number,
    layer: number,
    plane: Plane,
    row: number,
    source: Float32Array,
    sourceRow: number,
    count: number,
  ): void {
    const slot = this.opened(index);
    assert(row + count <= this.slotTokens, `row ${row + count} of ${this.slotTokens}`);
    const { headDim, numKvHeads } = this;
    const columns = numKvHeads * headDim;
    for (let head = 0; head < numKvHeads; head++) {
      const target = slot.planes[this.#plane(layer, plane, head)];
      assert(target instanceof Float32Array, 'other types are written by the kernels');
      let at = (this.#leadingRows + row) * headDim;
      let from = sourceRow * columns + head * headDim;
      for (let left = count; left > 0; left--) {
        target.set(source.subarray(from, from + headDim), at);
        at += headDim;
        from += columns;
      }
    }
    slot.rows = Math.max(slot.rows, row + count);
  }

  /**
   * Whoever asks writes `count` rows from `row` on to every plane.
   *
   * @returns address of row 0 of the slot's first plane, for our own kernels
   */
  rowsToWrite(index: number, row: number, count: number): number {
    const { memory } = this.toWrite(index, row, count);
    assert(memory.address !== undefined, 'memory of this process');
    return memory.address + this.#leadingRows * this.rowBytes;
  }

  /** Keep the first `count` rows; the others are zeros again, and their memory is given back. */
  truncate(index: number, count: number): void {
    const slot = this.toTruncate(index, count);
    const first = (this.#leadingRows + count) * this.rowBytes;
    const end = (this.#leadingRows + slot.rows) * this.rowBytes;
    // Only whole pages are given back, and a view may reach past the rows that there are.
    const pageEnd = wholePages(first);
    // What lies behind the last row, to the end of its page, was never written.
    const lastPageEnd = wholePages(end);
    slot.planes.forEach((rows, plane) => {
      rows.fill(0, first / rows.BYTES_PER_ELEMENT, Math.min(end, pageEnd) / rows.BYTES_PER_ELEMENT);
      slot.memory.discard(plane * this.planeBytes + first, lastPageEnd - first);
    });
    slot.rows = count;
  }

  /** Copy the rows `row` … `end` − 1 of every layer from one slot to another, which has those before. */
  copyRows(from: number, to: number, row: number, end: number): void {
    const { source, target } = this.toCopy(from, to, row, end);
    const numbers = this.rowBytes / VIEWS[this.type].BYTES_PER_ELEMENT;
    const first = (this.#leadingRows + row) * numbers;
    const last = (this.#leadingRows + end) * numbers;
    source.planes.forEach((rows, plane) => {
      target.planes[plane]?.set(rows.subarray(first, last), first);
    });
  }

  /** One row of a plane, −1 included, to read or overwrite: float32 [headDim]. */
  row(index: number, layer: number, plane: Plane, head: number, row: number): Float32Array {
    const values = this.opened(index).planes[this.#plane(layer, plane, head)];
    assert(values instanceof Float32Array, 'other types are read by the kernels');
    assert(row >= -this.#leadingRows && row < this.slotTokens, `row ${row} of ${this.slotTokens}`);
    const at = (this.#leadingRows + row) * this.headDim;
    return values.subarray(at, at + this.headDim);
  }

  /** Where a plane's row lies, for a tensor view. A slot's memory stays where it is, closed or open. */
  location(
    index: number,
    layer: number,
    plane: Plane,
    head: number,
    row: number,
  ): { memory: HostMemory; byteOffset: number } {
    return {
      memory: this.opened(index).memory,
      byteOffset:
        this.#plane(layer, plane, head) * this.planeBytes + (this.#leadingRows + row) * this.rowBytes,
    };
  }

  protected get bytesOfSlot(): number {
    return this.planeBytes * this.#numPlanes;
  }

  protected get bytesOfRow(): number {
    return this.rowBytes * this.#numPlanes;
  }

  get #numPlanes(): number {
    return this.numLayers * this.#planesOfHead * this.numKvHeads;
  }

  #plane(layer: number, plane: Plane, head: number): number {
    const ofLayer = this.#planesOfHead === 1 ? layer : layer * 2 + plane;
    return ofLayer * this.numKvHeads + head;
  }

  protected reserve(): Slot {
    const bytes = (this.#leadingRows + this.slotTokens) * this.rowBytes;
    const View = VIEWS[this.type];
    // Where a model keeps none a slot is its number alone; but no memory has no bytes.
    const memory = this.#device.reserve(Math.max(1, this.bytesOfSlot));
    const planes = Array.from({ length: this.#numPlanes }, (_, plane) => {
      const { buffer, byteOffset } = memory.float32(plane * this.planeBytes, Math.ceil(bytes / 4));
      return new View(buffer as ArrayBuffer, byteOffset, bytes / View.BYTES_PER_ELEMENT);
    });
    return { memory, planes, rows: 0, open: false };
  }
}
