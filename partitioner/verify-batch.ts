/**
 * What `--verify` expects of the weights for many rows: the block-wise ones that lie beside them, rounded once more.
 *
 * In      the stored tensors of one linear on one rank: codes [inputs, outputs], their scales, and the block-wise weights
 * Out     nothing: the first difference is thrown
 * Why so  block-wise weights are compared with the checkpoint elsewhere (verify-tensors.ts); written apart from
 *         quantise/output-quantise.ts: a code must be the nearest to its weight, a scale must make the largest weight the largest code
 * Limits  memory: the codes of one linear on one rank, and a chunk of its weights
 * Errors  ServingError SHARDS_INVALID naming tensor, rank and output
 */
import type { TensorEntry } from '../proto/manifest.js';
import { dequantiseRows } from './quantise/block-quantise.js';
import { invalid } from './verify-error.js';

const CHUNK_FLOATS = 1 << 20;
/** Of a code: float32 rounding of weight and scale may move a weight that lies between two codes. */
const HALF = 0.5001;

/** Tensors of one linear; `rows` reads rows of one of them, on the rank. */
export interface BatchTensors {
  rank: number;
  codes: TensorEntry;
  scales: TensorEntry;
  blocks: { weight: TensorEntry; scales: TensorEntry; zeroPoints: TensorEntry | null };
  rows: (tensor: TensorEntry, from: number, to: number) => Uint8Array;
}

/** Yields after every piece of work. */
export function* compareBatchWeights(tensors: BatchTensors): Generator<void> {
  const { codes: codesEntry, rank, rows, scales: scalesEntry } = tensors;
  const [inputs = 0, outputs = 0] = codesEntry.shape;
  const bytes = rows(codesEntry, 0, inputs);
  const codes = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  const scaleBytes = rows(scalesEntry, 0, outputs);
  const scales = new Float32Array(scaleBytes.buffer, scaleBytes.byteOffset, outputs);
  const step = Math.max(1, Math.floor(CHUNK_FLOATS / inputs));
  for (let from = 0; from < outputs; from += step) {
    const to = Math.min(outputs, from + step);
    const weights = blockWise(tensors, inputs, from, to);
    for (let output = from; output < to; output++) {
      const row = weights.subarray((output - from) * inputs, (output - from + 1) * inputs);
      const scale = scales[output]!;
      const largest = row.reduce((most, weight) => Math.max(most, Math.abs(weight)), 0);
      const isScaled = Math.abs(largest / 127 - scale) <= scale * 2 ** -20;
      const isNearest = row.every((weight, input) => {
        const code = codes[input * outputs + output]!;
        return scale === 0 ? code === 0 : Math.abs(weight / scale - code) <= HALF;
      });
      if (isScaled && isNearest) continue;
      throw invalid(
        `${codesEntry.name} of rank ${rank} differs from the block-wise weights in output ${output}`,
      );
    }
    yield;
  }
}

/** float32 [to − from, inputs] */
function blockWise({ blocks, rows }: BatchTensors, inputs: number, from: number, to: number): Float32Array {
  const { scales, weight, zeroPoints } = blocks;
  if (weight.packing === undefined) throw invalid(`${weight.name} is not packed`);
  const scaleBytes = rows(scales, from, to);
  const perRow = scales.shape[1] ?? 0;
  const quantised = {
    packed: rows(weight, from, to),
    scales: new Float32Array(scaleBytes.buffer, scaleBytes.byteOffset, (to - from) * perRow),
    zeroPoints: zeroPoints && unpacked(rows(zeroPoints, from, to), to - from, perRow, weight.packing.bits),
  };
  return dequantiseRows(quantised, to - from, inputs, weight.packing);
}

/** Zero points, one a byte. */
function unpacked(bytes: Uint8Array, rows: number, blocks: number, bits: 4 | 8): Uint8Array {
  if (bits === 8) return bytes;
  const rowBytes = bytes.length / rows;
  return Uint8Array.from({ length: rows * blocks }, (_, index) => {
    const [row, block] = [Math.floor(index / blocks), index % blocks];
    return (bytes[row * rowBytes + (block >> 1)]! >> (4 * (block & 1))) & 15;
  });
}
