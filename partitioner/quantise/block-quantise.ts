/**
 * Block-wise symmetric quantisation to 4 or 8 bits, in the layout of com.microsoft.MatMulNBits.
 *
 * In      weights float32 [rows = N outputs, columns = K inputs], row-major: a Hugging Face Linear as it is stored
 * Out     packed uint8 [rows, blocks, blockSize · bits / 8] and scales float32 [rows, blocks], blocks = ceil(columns / blockSize);
 *         w = (q − zero) · scale with zero = 2^(bits − 1), MatMulNBits' default, so no zero points are stored.
 *         4 bits: the even column in the low nibble. Columns past the last are padded with q = zero, which is exactly 0.
 * How     scale = −(value of largest magnitude, with its sign) / zero, so that this value is exactly q = 0: the whole range
 *         −zero … zero − 1 is used, where the usual max / (zero − 1) wastes one level of 16.
 * Bound   |w − dequantised| ≤ |scale| / 2 (and float32 rounding); a value of the other sign within half a step of the largest
 *         magnitude is clipped by one level: ≤ |scale|
 * Limits  memory is the caller's: it passes rows in pieces. Rows never meet, so pieces give the bytes of the whole.
 * Errors  ServingError CHECKPOINT_INVALID naming the tensor, row and column of a NaN or infinity
 * Source  ONNX Runtime ContribOperators.md "MatMulNBits"; the signed maximum as in llama.cpp's Q4_0
 */
import assert from 'node:assert/strict';
import { ServingError } from '../../proto/errors.js';

export type QuantisedBits = 4 | 8;

/** What MatMulNBits takes on CPU. */
export const BLOCK_SIZES: readonly number[] = [16, 32, 64, 128, 256];

export interface QuantisedRows {
  /** [rows, blocks, blockSize · bits / 8] */
  packed: Uint8Array;
  /** [rows, blocks] */
  scales: Float32Array;
}

/** float32 bits of infinity without its sign: as large or larger is no number. */
const INFINITY_BITS = 0x7f800000;

/** Smallest normal float32. Below it (subnormal) a block counts as zero: its scale could not be kept in float32. */
const SMALLEST_NORMAL_BITS = 0x00800000;

/** Blocks of one row. */
export function blocksPerRow(columns: number, blockSize: number): number {
  return Math.ceil(columns / blockSize);
}

/** Bytes of one packed block. */
export function blockBytes(bits: QuantisedBits, blockSize: number): number {
  return (blockSize * bits) / 8;
}

/**
 * @param weights [rows, columns]
 * @param label tensor, for the message
 * @param firstRow row of the tensor that `weights` begins with, for the message
 */
export function quantiseRows(
  weights: Float32Array,
  rows: number,
  columns: number,
  bits: QuantisedBits,
  blockSize: number,
  label = 'weights',
  firstRow = 0,
): QuantisedRows {
  assert(weights.length === rows * columns, `${label}: ${weights.length} weights, not ${rows} × ${columns}`);
  assert(BLOCK_SIZES.includes(blockSize), `block size ${blockSize}`);
  const blocks = blocksPerRow(columns, blockSize);
  const packed = new Uint8Array(rows * blocks * blockBytes(bits, blockSize));
  const scales = new Float32Array(rows * blocks);
  const weightBits = new Int32Array(weights.buffer, weights.byteOffset, weights.length);
  const zero = 2 ** (bits - 1);
  const pack = bits === 4 ? packNibbles : packBytes;
  const bytes = blockBytes(bits, blockSize);
  for (let row = 0, block = 0; row < rows; row++) {
    const rowEnd = (row + 1) * columns;
    for (let start = row * columns; start < rowEnd; start += blockSize, block++) {
      const end = Math.min(start + blockSize, rowEnd);
      const largest = indexOfLargest(weightBits, start, end);
      const magnitudeBits = weightBits[largest]! & 0x7fffffff;
      if (magnitudeBits >= INFINITY_BITS) {
        throw new ServingError(
          'CHECKPOINT_INVALID',
          `Tensor ${label} has ${weights[largest]} in row ${firstRow + row}, column ${largest - row * columns}`,
        );
      }
      if (magnitudeBits < SMALLEST_NORMAL_BITS) {
        packed.fill(bits === 4 ? 0x88 : 0x80, block * bytes, (block + 1) * bytes);
        continue; // scale 0
      }
      const scale = Math.fround(-weights[largest]! / zero);
      scales[block] = scale;
      const written = pack(weights, start, end, 1 / scale, packed, block * bytes);
      if (end - start < blockSize) packed.fill(bits === 4 ? 0x88 : 0x80, written, (block + 1) * bytes);
    }
  }
  return { packed, scales };
}

/**
 * By integers: float32 magnitudes compare like their bits, and NaN and infinity come out as the largest.
 *
 * @returns index in [start, end)
 */
function indexOfLargest(weightBits: Int32Array, start: number, end: number): number {
  let largest = weightBits[start]! & 0x7fffffff;
  let at = start;
  for (let index = start + 1; index < end; index++) {
    const magnitude = weightBits[index]! & 0x7fffffff;
    if (magnitude > largest) {
      largest = magnitude;
      at = index;
    }
  }
  return at;
}

/**
 * Two weights a byte. x = w / scale lies in [−8, 8], so x + 8.5 cut to an integer is the nearest level in 0 … 16, and
 * `q − (q >> 4)` takes 16 back to 15 without a branch.
 *
 * @returns index after the last byte written
 */
function packNibbles(
  weights: Float32Array,
  start: number,
  end: number,
  inverse: number,
  packed: Uint8Array,
  into: number,
): number {
  let out = into;
  let index = start;
  for (; index + 1 < end; index += 2) {
    const even = (weights[index]! * inverse + 8.5) | 0;
    const odd = (weights[index + 1]! * inverse + 8.5) | 0;
    packed[out++] = (even - (even >> 4)) | ((odd - (odd >> 4)) << 4);
  }
  if (index < end) {
    const even = (weights[index]! * inverse + 8.5) | 0;
    packed[out++] = (even - (even >> 4)) | 0x80;
  }
  return out;
}

/** One weight a byte, as packNibbles with 256 levels. */
function packBytes(
  weights: Float32Array,
  start: number,
  end: number,
  inverse: number,
  packed: Uint8Array,
  into: number,
): number {
  for (let index = start, out = into; index < end; index++, out++) {
    const level = (weights[index]! * inverse + 128.5) | 0;
    packed[out] = level - (level >> 8);
  }
  return into + end - start;
}

/**
 * The weights that MatMulNBits computes with; for tests and --verify, written apart from the packing above.
 *
 * @param quantised [rows, ceil(columns / blockSize), …]
 * @returns float32 [rows, columns]
 */
export function dequantiseRows(
  quantised: QuantisedRows,
  rows: number,
  columns: number,
  bits: QuantisedBits,
  blockSize: number,
): Float32Array {
  const blocks = blocksPerRow(columns, blockSize);
  assert(quantised.scales.length === rows * blocks, `${quantised.scales.length} scales`);
  assert(
    quantised.packed.length === (rows * blocks * blockSize * bits) / 8,
    `${quantised.packed.length} bytes`,
  );
  const weights = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const level = row * blocks * blockSize + column;
      const q =
        bits === 8 ? quantised.packed[level]! : (quantised.packed[level >> 1]! >> (4 * (level & 1))) & 15;
      const scale = quantised.scales[row * blocks + Math.floor(column / blockSize)]!;
      weights[row * columns + column] = (q - 2 ** (bits - 1)) * scale;
    }
  }
  return weights;
}
