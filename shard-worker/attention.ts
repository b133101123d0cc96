/**
 * Attention of one sequence over its slot: writes the step's new keys and values into the cache, then runs the attend
 * segment over a view of exactly the rows there are (design D2).
 *
 * A sliding window is passed as the last rows. A chunk of several queries whose windows differ can't be one causal view: it
 * runs the masked segment.
 *
 * With sinks the view begins one row earlier, and that row is the sinks' while the segment runs (manifest: attend.sinkColumn).
 * Elsewhere it is a token's that the window has left behind, so it is put back: a slot's rows may be read again.
 *
 * Errors  an Error from ONNX Runtime; assertions
 */
import type { Device, DeviceMemory, Segment, SegmentBinding, TensorHandle } from './device/device.js';
import { type KvCache, Plane } from './kv-cache.js';
import type { Span } from './span.js';

/** A buffer of packed activations, float32 [tokens, columns]. */
export interface Activations {
  memory: DeviceMemory;
  columns: number;
}

/** The sinks' row: float32 [cache columns] each. */
interface SinkRow {
  key: Float32Array;
  value: Float32Array;
}

/** Views of query and output rows that are kept: decode steps use the same ones again and again. */
const MAX_KEPT_VIEWS = 2048;
/** Added to the score of a token that a query may not see. */
const MASKED = -3.4e38;

export class Attention {
  readonly #device: Device;
  readonly #kvCache: KvCache;
  readonly #attend: Segment;
  readonly #masked: Segment;
  readonly #attendBinding: SegmentBinding;
  readonly #maskedBinding: SegmentBinding;
  readonly #length: BigInt64Array;
  readonly #lengthTensor: TensorHandle;
  readonly #query: Activations;
  readonly #output: Activations;
  readonly #maskMemory: DeviceMemory;
  readonly #sink: SinkRow | null;
  /** What lies where the sinks' row goes. */
  readonly #covered: SinkRow;
  readonly #views = new Map<string, TensorHandle>();

  constructor(options: {
    device: Device;
    kvCache: KvCache;
    attend: Segment;
    masked: Segment;
    query: Activations;
    output: Activations;
    maxStepTokens: number;
    /** Columns of one head in the cache, and the one in which the sinks' key is 1; null: no sinks. */
    headDim: number;
    sinkColumn: number | null;
  }) {
    const { device, kvCache } = options;
    this.#device = device;
    this.#kvCache = kvCache;
    this.#attend = options.attend;
    this.#masked = options.masked;
    this.#query = options.query;
    this.#output = options.output;
    this.#attendBinding = options.attend.newBinding();
    this.#maskedBinding = options.masked.newBinding();
    const lengthMemory = device.reserve(8);
    this.#length = lengthMemory.bigInt64(0, 1);
    this.#lengthTensor = device.tensor(lengthMemory, 0, 'int64', [1]);
    this.#maskMemory = device.reserve(options.maxStepTokens * (kvCache.slotTokens + 1) * 4);
    const { columns } = kvCache;
    const { headDim, sinkColumn } = options;
    const isSink = (_: unknown, column: number): number => (column % headDim === sinkColumn ? 1 : 0);
    this.#sink =
      sinkColumn === null
        ? null
        : { key: Float32Array.from({ length: columns }, isSink), value: new Float32Array(columns) };
    this.#covered = { key: new Float32Array(columns), value: new Float32Array(columns) };
  }

  /**
   * @param window tokens a query sees, itself included; null: all
   * @param newKeys float32 [tokens, kvColumns], likewise newValues
   */
  attend(
    span: Span,
    layer: number,
    window: number | null,
    newKeys: Float32Array,
    newValues: Float32Array,
  ): void {
    const { slot } = span.sequence;
    const cache = this.#kvCache;
    cache.write(slot, layer, Plane.KEY, span.position, newKeys, span.offset, span.count);
    cache.write(slot, layer, Plane.VALUE, span.position, newValues, span.offset, span.count);
    const end = span.position + span.count;
    // The first query is the one that sees furthest back.
    const start = window === null ? 0 : Math.max(0, span.position + 1 - window);
    const needsMask = window !== null && span.count > 1 && end - start > window;
    const segment = needsMask ? this.#masked : this.#attend;
    const binding = needsMask ? this.#maskedBinding : this.#attendBinding;

    const first = this.#sink === null ? start : start - 1;
    const rows = end - first;
    const keys = this.#cacheView(slot, layer, Plane.KEY, first, rows);
    const values = this.#cacheView(slot, layer, Plane.VALUE, first, rows);
    const mask = needsMask ? this.#windowMask(span, start, first, rows, window) : null;
    this.#length[0] = BigInt(rows);
    binding.setInput(0, this.#view('query', this.#query, span));
    binding.setInput(1, keys);
    binding.setInput(2, values);
    binding.setInput(3, this.#lengthTensor);
    if (mask !== null) binding.setInput(4, mask);
    binding.setOutput(0, this.#view('output', this.#output, span));
    this.#cover(slot, layer, first);
    try {
      segment.run(binding);
    } finally {
      this.#uncover(slot, layer, first);
      this.#device.releaseTensor(keys);
      this.#device.releaseTensor(values);
      if (mask !== null) this.#device.releaseTensor(mask);
    }
  }

  /** Puts the sinks' row into the cache. @param row −1: nothing is there */
  #cover(slot: number, layer: number, row: number): void {
    if (this.#sink === null) return;
    const key = this.#kvCache.row(slot, layer, Plane.KEY, row);
    const value = this.#kvCache.row(slot, layer, Plane.VALUE, row);
    this.#covered.key.set(key);
    this.#covered.value.set(value);
    key.set(this.#sink.key);
    value.set(this.#sink.value);
  }

  #uncover(slot: number, layer: number, row: number): void {
    if (this.#sink === null) return;
    this.#kvCache.row(slot, layer, Plane.KEY, row).set(this.#covered.key);
    this.#kvCache.row(slot, layer, Plane.VALUE, row).set(this.#covered.value);
  }

  #cacheView(slot: number, layer: number, plane: Plane, start: number, rows: number): TensorHandle {
    const { memory, byteOffset } = this.#kvCache.location(slot, layer, plane, start);
    return this.#device.tensor(memory, byteOffset, 'float32', [1, rows, this.#kvCache.columns]);
  }

  /** Rows of the span in an activation buffer, as [1, count, columns]. */
  #view(role: string, { memory, columns }: Activations, span: Span): TensorHandle {
    const key = `${role}/${span.offset}/${span.count}`;
    const kept = this.#views.get(key);
    if (kept !== undefined) return kept;
    if (this.#views.size >= MAX_KEPT_VIEWS) {
      for (const tensor of this.#views.values()) this.#device.releaseTensor(tensor);
      this.#views.clear();
    }
    const tensor = this.#device.tensor(memory, span.offset * columns * 4, 'float32', [
      1,
      span.count,
      columns,
    ]);
    this.#views.set(key, tensor);
    return tensor;
  }

  /**
   * float32 [count, rows]: 0 where query position q may see key position k, q − window < k ≤ q. Rows before `start` are seen
   * by all.
   */
  #windowMask(span: Span, start: number, first: number, rows: number, window: number): TensorHandle {
    const mask = this.#maskMemory.float32(0, span.count * rows);
    for (let query = 0; query < span.count; query++) {
      const position = span.position + query;
      for (let row = 0; row < rows; row++) {
        const key = first + row;
        const seen = key < start || (key <= position && key > position - window);
        mask[query * rows + row] = seen ? 0 : MASKED;
      }
    }
    return this.#device.tensor(this.#maskMemory, 0, 'float32', [span.count, rows]);
  }
}
