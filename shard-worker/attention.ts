/**
 * Attention of one sequence over its slot: writes the step's new keys and values into the cache, then runs the attend
 * segment over a view of exactly the rows there are (design D2).
 *
 * A sliding window is passed as the last rows. A chunk of several queries whose windows differ can't be one causal view: it
 * runs the masked segment.
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
  readonly #views = new Map<string, TensorHandle>();

  constructor(options: {
    device: Device;
    kvCache: KvCache;
    attend: Segment;
    masked: Segment;
    query: Activations;
    output: Activations;
    maxStepTokens: number;
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
    this.#maskMemory = device.reserve(options.maxStepTokens * kvCache.slotTokens * 4);
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
    const rows = end - start;
    const needsMask = window !== null && span.count > 1 && rows > window;
    const segment = needsMask ? this.#masked : this.#attend;
    const binding = needsMask ? this.#maskedBinding : this.#attendBinding;

    const keys = this.#cacheView(slot, layer, Plane.KEY, start, rows);
    const values = this.#cacheView(slot, layer, Plane.VALUE, start, rows);
    const mask = needsMask ? this.#windowMask(span, start, rows, window) : null;
    this.#length[0] = BigInt(rows);
    binding.setInput(0, this.#view('query', this.#query, span));
    binding.setInput(1, keys);
    binding.setInput(2, values);
    binding.setInput(3, this.#lengthTensor);
    if (mask !== null) binding.setInput(4, mask);
    binding.setOutput(0, this.#view('output', this.#output, span));
    try {
      segment.run(binding);
    } finally {
      this.#device.releaseTensor(keys);
      this.#device.releaseTensor(values);
      if (mask !== null) this.#device.releaseTensor(mask);
    }
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

  /** float32 [count, rows]: 0 where query position q may see key position k, q − window < k ≤ q. */
  #windowMask(span: Span, start: number, rows: number, window: number): TensorHandle {
    const mask = this.#maskMemory.float32(0, span.count * rows);
    for (let query = 0; query < span.count; query++) {
      const position = span.position + query;
      for (let row = 0; row < rows; row++) {
        const seen = start + row <= position && start + row > position - window;
        mask[query * rows + row] = seen ? 0 : MASKED;
      }
    }
    return this.#device.tensor(this.#maskMemory, 0, 'float32', [span.count, rows]);
  }
}
