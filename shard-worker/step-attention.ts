/**
 * Attention of a text over itself: every token sees every other, all of them in this step. Nothing is copied and nothing is
 * kept: queries, keys and values are views of the step's packed rows.
 *
 * Limits  a text runs whole in one step
 * Errors  an Error from ONNX Runtime; assertions
 */
import assert from 'node:assert/strict';
import type { Activations } from './attention.js';
import type { HostDevice, Segment, SegmentBinding, TensorHandle } from './device/device.js';
import type { Span } from './span.js';

export interface StepAttentionOptions {
  device: HostDevice;
  attend: Segment;
  query: Activations;
  key: Activations;
  value: Activations;
  output: Activations;
}

export class StepAttention {
  readonly #options: StepAttentionOptions;
  readonly #binding: SegmentBinding;
  readonly #length: BigInt64Array;
  readonly #lengthTensor: TensorHandle;

  constructor(options: StepAttentionOptions) {
    const { attend, device } = options;
    this.#options = options;
    this.#binding = attend.newBinding();
    const memory = device.reserve(8);
    this.#length = memory.bigInt64(0, 1);
    this.#lengthTensor = device.tensor(memory, 0, 'int64', [1]);
  }

  /** One sequence; where its rows are in the four buffers is all it needs. */
  attend(span: Span): void {
    const { attend, device, key, output, query, value } = this.#options;
    assert(span.position === 0 && span.outputRows === 1, 'a text attends in one piece');
    this.#length[0] = BigInt(span.count);
    const views = [query, key, value, output].map(({ columns, memory }) =>
      device.tensor(memory, span.offset * columns * 4, 'float32', [1, span.count, columns]),
    );
    try {
      views.slice(0, 3).forEach((view, input) => {
        this.#binding.setInput(input, view);
      });
      this.#binding.setInput(3, this.#lengthTensor);
      this.#binding.setOutput(0, views[3]!);
      attend.run(this.#binding);
    } finally {
      for (const view of views) device.releaseTensor(view);
    }
  }
}
