/**
 * This rank's keys and values in the memory of a remote device, by slot.
 *
 * A slot has a buffer of keys and one of values for each layer, [KV heads, slotTokens, headDim] of `type`, since a device's buffers are bound
 * whole. They are made when the slot is first opened and kept: a device's memory is not given back by pages. Attention writes the rows
 * (remote-attention.ts); what lies behind a slot's rows is never read, so a row that is cut off is forgotten, not cleared.
 *
 * Limits  maxSlots slots; slotTokens rows each
 * Errors  assertions, like kv-cache.ts; an Error where the device has no memory left
 */
import assert from 'node:assert/strict';
import {
  type DeviceBuffer,
  type RemoteDevice,
  type Segment,
  type SegmentBinding,
  TENSOR_BYTES,
  type TensorHandle,
} from './device/device.js';
import type { KvCacheShape } from './kv-cache.js';
import { type SlotState, Slots } from './slots.js';

export interface RemoteKvCacheOptions extends KvCacheShape {
  device: RemoteDevice;
  maxSlots: number;
  slotTokens: number;
  type: 'float32' | 'float16';
  /** Loads the manifest's segment that copies rows; asked once, when rows are first copied. */
  loadCopy: () => Segment;
}

/** A layer of a slot. */
export interface RemotePlanes {
  keys: TensorHandle;
  values: TensorHandle;
}

interface Slot extends SlotState {
  buffers: DeviceBuffer[];
  /** By layer: [1, KV heads, slotTokens, headDim]. */
  planes: RemotePlanes[];
}

/** Graph inputs of the manifest's segment that copies rows, in the order of a binding. */
export const COPY_INPUTS = ['from', 'to', 'index', 'place'];

export class RemoteKvCache extends Slots<Slot> {
  readonly #options: RemoteKvCacheOptions;
  #copier: { segment: Segment; binding: SegmentBinding; index: DeviceBuffer } | null = null;

  constructor(options: RemoteKvCacheOptions) {
    super(options.maxSlots, options.slotTokens);
    assert(options.headDim % 8 === 0, `heads of ${options.headDim}`);
    this.#options = options;
  }

  /** Keep the first `count` rows. */
  truncate(index: number, count: number): void {
    this.toTruncate(index, count).rows = count;
  }

  /** Whoever asks writes `count` rows from `row` on to every layer. */
  rowsToWrite(index: number, row: number, count: number): void {
    this.toWrite(index, row, count);
  }

  planes(index: number, layer: number): RemotePlanes {
    return this.opened(index).planes[layer] ?? assert.fail(`layer ${layer}`);
  }

  /** Copy the rows `row` … `end` − 1 of every layer from one slot to another, which has those before. */
  copyRows(from: number, to: number, row: number, end: number): void {
    const { source, target } = this.toCopy(from, to, row, end);
    const count = this.#writeIndex(row, end);
    if (count === 0) return;
    const { device, headDim, numKvHeads } = this.#options;
    const copier = this.#copier ?? assert.fail();
    const { binding, index, segment } = copier;
    const places = [device.tensor(index, [count]), device.tensor(index, [count, 1])];
    const held = [...places];
    places.forEach((place, input) => {
      binding.setInput(2 + input, place);
    });
    target.buffers.forEach((buffer, plane) => {
      const [read, written] = [source.buffers[plane] ?? assert.fail(), buffer].map((memory) =>
        device.tensor(memory, [numKvHeads * this.slotTokens, headDim]),
      ) as [TensorHandle, TensorHandle];
      held.push(read, written);
      binding.setInput(0, read);
      binding.setInput(1, written);
      // In place: the graph's output is the memory of its input.
      binding.setOutput(0, written);
      segment.run(binding);
    });
    for (const tensor of held) device.releaseTensor(tensor);
  }

  /** The rows of all heads, by their places in a buffer. @returns how many */
  #writeIndex(row: number, end: number): number {
    const { device, loadCopy, numKvHeads } = this.#options;
    if (this.#copier === null) {
      const segment = loadCopy();
      const index = device.allocate('int64', numKvHeads * this.slotTokens);
      this.#copier = { segment, binding: segment.newBinding(), index };
    }
    const rows = end - row;
    const places = new BigInt64Array(numKvHeads * rows);
    for (let head = 0; head < numKvHeads; head++) {
      for (let at = 0; at < rows; at++) places[head * rows + at] = BigInt(head * this.slotTokens + row + at);
    }
    device.upload(this.#copier.index, places, places.length);
    return places.length;
  }

  protected get bytesOfSlot(): number {
    return this.slotTokens * this.bytesOfRow;
  }

  protected get bytesOfRow(): number {
    const { headDim, numKvHeads, numLayers, type } = this.#options;
    return 2 * numLayers * numKvHeads * headDim * TENSOR_BYTES[type];
  }

  protected reserve(): Slot {
    const { device, headDim, numKvHeads, numLayers, type } = this.#options;
    const dims = [1, numKvHeads, this.slotTokens, headDim];
    const length = numKvHeads * this.slotTokens * headDim;
    const buffers = Array.from({ length: 2 * numLayers }, () => device.allocate(type, length));
    const tensors = buffers.map((buffer) => device.tensor(buffer, dims));
    const planes = Array.from({ length: numLayers }, (_, layer) => ({
      keys: tensors[2 * layer] ?? assert.fail(),
      values: tensors[2 * layer + 1] ?? assert.fail(),
    }));
    return { buffers, planes, rows: 0, open: false };
  }
}
