/**
 * Sums over ranks by a segment: the same bits as tree-sum.ts, several times as fast on many values.
 *
 * In      the manifest's sum segment (`Add` nodes, the same tree)
 * Out     a function like sumAsTree
 * Measured  one core, µs by JavaScript and by the segment: two ranks, 2 Ki values 1.5 and 4.2, 8 Ki 5.8 and 4.3, 32 Ki 23 and
 *         4.7, 512 Ki 367 and 68; four ranks, 2 Ki 4.1 and 3.9, 32 Ki 64 and 14. In place, two ranks, with what the peer has just
 *         written in the other core's cache: 2 Ki by JavaScript 9, by the segment 12; 16 Ki by the segment 47, with tensors that are kept
 *         33; 128 Ki 190 and 148
 */
import type { Device, Segment, SegmentBinding, TensorHandle } from '../device/device.js';
import { type SumOverRanks, sumAsTree } from './tree-sum.js';

/** Values to read, over all summands, from which on the segment is faster. */
const SEGMENT_FLOATS = 8192;
/** The manifest's pairs of partial and sum, for the numbers of tokens that decode steps alternate between. */
const MAX_KEPT = 32;

interface Bound {
  binding: SegmentBinding;
  tensors: TensorHandle[];
  sum: Float32Array;
  summands: readonly Float32Array[];
  floats: number;
}

export function deviceSum(device: Device, segment: Segment): SumOverRanks {
  const bind = (bound: Bound): void => {
    const { binding, floats, sum, summands, tensors } = bound;
    const shape = [floats];
    summands.forEach((summand, rank) => {
      const tensor = device.hostTensor(summand, floats, shape);
      tensors.push(tensor);
      binding.setInput(rank, tensor);
    });
    const out = device.hostTensor(sum, floats, shape);
    tensors.push(out);
    binding.setOutput(0, out);
  };
  const unbind = ({ tensors }: Bound): void => {
    for (const tensor of tensors) device.releaseTensor(tensor);
    tensors.length = 0;
  };
  const kept: Bound[] = [];
  let oldest = 0;
  const keep = (sum: Float32Array, summands: readonly Float32Array[], floats: number): Bound => {
    for (const bound of kept) {
      if (bound.floats === floats && bound.sum === sum && bound.summands === summands) return bound;
    }
    const replaced = kept[oldest];
    if (replaced) unbind(replaced);
    const bound = { binding: replaced?.binding ?? segment.newBinding(), tensors: [], sum, summands, floats };
    bind(bound);
    kept[oldest] = bound;
    oldest = (oldest + 1) % MAX_KEPT;
    return bound;
  };
  const passing = segment.newBinding();
  return (sum, summands, floats, areLasting = false) => {
    if (floats * summands.length < SEGMENT_FLOATS) {
      sumAsTree(sum, summands, floats);
      return;
    }
    if (areLasting) {
      segment.run(keep(sum, summands, floats).binding);
      return;
    }
    // Kept only for the run: memory of a message that was received is gone afterwards.
    const bound = { binding: passing, tensors: [], sum, summands, floats };
    try {
      bind(bound);
      segment.run(passing);
    } finally {
      unbind(bound);
    }
  };
}
