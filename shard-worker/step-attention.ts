/**
 * Attention of a text over itself: every token sees every other, or those within a window to both sides, all of them in this step.
 * Nothing is copied and nothing is kept: queries, keys and values are views of the step's packed rows.
 *
 * With a window QUERIES_TOGETHER queries attend at a time, to the keys that one of them sees, by the masked segment.
 *
 * Limits  a text runs whole in one step
 * Errors  an Error from ONNX Runtime; assertions
 */
import assert from 'node:assert/strict';
import type { Activations } from './attention.js';
import type { HostDevice, HostMemory, Segment, SegmentBinding, TensorHandle } from './device/device.js';
import type { Span } from './span.js';

/** Added to the score of a token that a query may not see. */
const MASKED = -3.4e38;
const QUERIES_TOGETHER = 64;

export interface StepAttentionOptions {
  device: HostDevice;
  attend: Segment;
  /** null: no layer has a window. */
  masked: Segment | null;
  maxStepTokens: number;
  /** Both tables of each layer (manifest: attend.distanceRows); empty: there are none. */
  distances: readonly (readonly TensorHandle[])[];
  query: Activations;
  key: Activations;
  value: Activations;
  output: Activations;
}

/** Rows of a text. */
interface Range {
  first: number;
  count: number;
}

export class StepAttention {
  readonly #options: StepAttentionOptions;
  readonly #binding: SegmentBinding;
  readonly #maskedBinding: SegmentBinding | null;
  readonly #maskMemory: HostMemory | null;
  readonly #length: BigInt64Array;
  readonly #lengthTensor: TensorHandle;

  constructor(options: StepAttentionOptions) {
    const { attend, device } = options;
    this.#options = options;
    this.#binding = attend.newBinding();
    this.#maskedBinding = options.masked?.newBinding() ?? null;
    this.#maskMemory =
      options.masked === null ? null : device.reserve(QUERIES_TOGETHER * options.maxStepTokens * 4);
    const memory = device.reserve(8);
    this.#length = memory.bigInt64(0, 1);
    this.#lengthTensor = device.tensor(memory, 0, 'int64', [1]);
  }

  /**
   * One sequence; where its rows are in the four buffers is all it needs.
   *
   * @param seen window: tokens a query sees to either side, itself included; null: all
   */
  attend(span: Span, layer: number, { window }: { window: number | null }): void {
    assert(span.position === 0 && span.outputRows === 1, 'a text attends in one piece');
    const { count } = span;
    if (window === null || window >= count) {
      const whole = { first: 0, count };
      this.#run(span.offset, whole, whole, null, this.#options.distances[layer]);
      return;
    }
    for (let first = 0; first < count; first += QUERIES_TOGETHER) {
      const queries = { first, count: Math.min(QUERIES_TOGETHER, count - first) };
      const start = Math.max(0, first - window + 1);
      const end = Math.min(count, first + queries.count + window - 1);
      this.#run(span.offset, queries, { first: start, count: end - start }, window);
    }
  }

  /** Some of a text's queries over some of its keys. @param offset of the text among the packed rows */
  #run(
    offset: number,
    queries: Range,
    keys: Range,
    window: number | null,
    distances: readonly TensorHandle[] = [],
  ): void {
    const { attend, device, key, masked, output, query, value } = this.#options;
    const segment = window === null ? attend : masked;
    const binding = window === null ? this.#binding : this.#maskedBinding;
    assert(segment !== null && binding !== null, 'a window has a segment');
    this.#length[0] = BigInt(keys.count);
    const view = ({ columns, memory }: Activations, { count, first }: Range): TensorHandle =>
      device.tensor(memory, (offset + first) * columns * 4, 'float32', [1, count, columns]);
    const views = [view(query, queries), view(key, keys), view(value, keys), view(output, queries)];
    if (window !== null) views.push(this.#mask(queries, keys, window));
    try {
      views.slice(0, 3).forEach((handle, input) => {
        binding.setInput(input, handle);
      });
      binding.setInput(3, this.#lengthTensor);
      if (views[4] !== undefined) binding.setInput(4, views[4]);
      for (const [index, table] of distances.entries()) binding.setInput(4 + index, table);
      binding.setOutput(0, views[3]!);
      segment.run(binding);
    } finally {
      for (const handle of views) device.releaseTensor(handle);
    }
  }

  /** float32 [queries, keys]: 0 where they are less than the window apart. */
  #mask(queries: Range, keys: Range, window: number): TensorHandle {
    const memory = this.#maskMemory;
    assert(memory !== null);
    const mask = memory.float32(0, queries.count * keys.count);
    for (let query = 0; query < queries.count; query++) {
      for (let row = 0; row < keys.count; row++) {
        const apart = Math.abs(queries.first + query - keys.first - row);
        mask[query * keys.count + row] = apart < window ? 0 : MASKED;
      }
    }
    return this.#options.device.tensor(memory, 0, 'float32', [queries.count, keys.count]);
  }
}
