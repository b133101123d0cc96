/**
 * This rank's keys and values, by slot.
 *
 * A slot holds one sequence: for each layer `slotTokens` rows of keys and of values, row-major [slotTokens, columns] float32,
 * columns = this rank's KV heads · head size. Where a model has sinks there is room for one row more before a plane's first,
 * row −1 (attention.ts). A slot is address space for its full length, and memory only for the rows that were written (design
 * D4); closing it gives the pages back. A slot stays open as long as its rows are of use, also when its sequence has ended.
 *
 * Limits  maxSlots slots; slotTokens rows each
 * Errors  assertions: the coordinator never names a slot that is not free or a row past the end
 */
import assert from 'node:assert/strict';
import type { Device, DeviceMemory } from './device/device.js';

export interface KvCacheOptions {
  device: Device;
  numLayers: number;
  /** KV heads of this rank · head size. */
  columns: number;
  maxSlots: number;
  slotTokens: number;
  /** Rows of a plane before its first, 0 or 1. */
  leadingRows?: number;
}

/** Plane of a layer: keys or values. */
export const Plane = { KEY: 0, VALUE: 1 } as const;
export type Plane = (typeof Plane)[keyof typeof Plane];

interface Slot {
  memory: DeviceMemory;
  /** Float32 view of each plane, by layer · 2 + plane. */
  planes: Float32Array[];
  /** Rows written since it was opened. */
  rows: number;
  open: boolean;
}

export class KvCache {
  readonly columns: number;
  readonly slotTokens: number;
  readonly #device: Device;
  readonly #numLayers: number;
  readonly #leadingRows: number;
  readonly #planeBytes: number;
  readonly #slots: (Slot | null)[];

  constructor(options: KvCacheOptions) {
    this.#device = options.device;
    this.#numLayers = options.numLayers;
    this.columns = options.columns;
    this.slotTokens = options.slotTokens;
    this.#leadingRows = options.leadingRows ?? 0;
    this.#planeBytes = (this.#leadingRows + options.slotTokens) * options.columns * 4;
    this.#slots = new Array<Slot | null>(options.maxSlots).fill(null);
  }

  /** Bytes of address space that the slots opened so far reserve. */
  get reservedBytes(): number {
    return this.#slots.filter((slot) => slot !== null).length * this.#planeBytes * this.#numLayers * 2;
  }

  /** Bytes of rows that open slots hold. */
  get touchedBytes(): number {
    const rows = this.#slots.reduce((sum, slot) => sum + (slot?.open ? slot.rows : 0), 0);
    return rows * this.columns * 4 * this.#numLayers * 2;
  }

  openSlots(): number[] {
    return this.#slots.flatMap((slot, index) => (slot?.open ? [index] : []));
  }

  open(index: number): void {
    assert(index >= 0 && index < this.#slots.length, `slot ${index} of ${this.#slots.length}`);
    const slot = this.#slots[index] ?? this.#reserve();
    assert(!slot.open, `slot ${index} is open already`);
    slot.open = true;
    slot.rows = 0;
    this.#slots[index] = slot;
  }

  close(index: number): void {
    const slot = this.#open(index);
    slot.memory.discard(0, slot.memory.bytes);
    slot.open = false;
  }

  /**
   * Write `count` rows, taken from `source` at its row `sourceRow`, to the slot's rows `row` … of one plane.
   *
   * @param source float32 [tokens, columns]
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
    const slot = this.#open(index);
    assert(row + count <= this.slotTokens, `row ${row + count} of ${this.slotTokens}`);
    const target = slot.planes[layer * 2 + plane];
    assert(target);
    const { columns } = this;
    const at = (this.#leadingRows + row) * columns;
    target.set(source.subarray(sourceRow * columns, (sourceRow + count) * columns), at);
    slot.rows = Math.max(slot.rows, row + count);
  }

  /** Keep the first `count` rows; the memory of the others is given back. */
  truncate(index: number, count: number): void {
    const slot = this.#open(index);
    assert(count <= slot.rows, `${count} rows kept of ${slot.rows} in slot ${index}`);
    const rowBytes = this.columns * 4;
    for (let plane = 0; plane < this.#numLayers * 2; plane++) {
      const start = plane * this.#planeBytes + this.#leadingRows * rowBytes;
      slot.memory.discard(start + count * rowBytes, (slot.rows - count) * rowBytes);
    }
    slot.rows = count;
  }

  /** Copy the rows `row` … `end` − 1 of every layer from one slot to another, which has those before. */
  copyRows(from: number, to: number, row: number, end: number): void {
    const source = this.#open(from);
    const target = this.#open(to);
    assert(
      from !== to && row <= target.rows && end <= source.rows,
      `rows ${row} … ${end} of slot ${from} to ${to}`,
    );
    const first = (this.#leadingRows + row) * this.columns;
    const last = (this.#leadingRows + end) * this.columns;
    source.planes.forEach((rows, plane) => {
      target.planes[plane]?.set(rows.subarray(first, last), first);
    });
    target.rows = Math.max(target.rows, end);
  }

  /** One row of a plane, −1 included, to read or overwrite: float32 [columns]. */
  row(index: number, layer: number, plane: Plane, row: number): Float32Array {
    const values = this.#open(index).planes[layer * 2 + plane];
    assert(values && row >= -this.#leadingRows && row < this.slotTokens, `row ${row} of ${this.slotTokens}`);
    const at = (this.#leadingRows + row) * this.columns;
    return values.subarray(at, at + this.columns);
  }

  /** Where a plane's rows start: for a tensor view of exactly the rows there are. */
  location(
    index: number,
    layer: number,
    plane: Plane,
    row: number,
  ): { memory: DeviceMemory; byteOffset: number } {
    const slot = this.#open(index);
    return {
      memory: slot.memory,
      byteOffset: (layer * 2 + plane) * this.#planeBytes + (this.#leadingRows + row) * this.columns * 4,
    };
  }

  #open(index: number): Slot {
    const slot = this.#slots[index];
    assert(slot?.open, `slot ${index} is not open`);
    return slot;
  }

  #reserve(): Slot {
    const planeFloats = (this.#leadingRows + this.slotTokens) * this.columns;
    // Of a model that keeps none a slot is its number alone; but no memory has no bytes.
    const memory = this.#device.reserve(Math.max(1, this.#planeBytes * this.#numLayers * 2));
    const planes = Array.from({ length: this.#numLayers * 2 }, (_, plane) =>
      memory.float32(plane * this.#planeBytes, planeFloats),
    );
    return { memory, planes, rows: 0, open: false };
  }
}
