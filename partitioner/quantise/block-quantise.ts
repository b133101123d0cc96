/**
 * Block-wise quantisation to 4 or 8 bits, in the layout of com.microsoft.MatMulNBits.
 *
 * In      weights float32 [rows = N outputs, columns = K inputs], row-major: a Hugging Face Linear as it is stored
 * Out     packed uint8 [rows, blocks, blockSize · bits / 8], scales float32 [rows, blocks], blocks = ceil(columns / blockSize), and
 *         zero points, one a block; w = (q − zero) · scale. Symmetric: zero = 2^(bits − 1), MatMulNBits' default, none stored.
 *         4 bits: the even column in the low nibble. Columns past the last are padded with q = zero, which is exactly 0.
 * How     symmetric: scale = −(value of largest magnitude, with its sign) / zero, so that this value is exactly q = 0: the whole
 *         range −zero … zero − 1 is used, where the usual max / (zero − 1) wastes one level of 16.
 *         Asymmetric: the range from the smallest to the largest value, 0 always within, in 2^bits − 1 steps.
 *         `search`: the best of several such scales, see scale-search.ts, and eight-bit-search.ts for 8 bits. Weights then go to the nearest level.
 * Bound   |w − dequantised| ≤ |scale| / 2 (and float32 rounding) where w lies within the range of the levels, else w is clipped
 *         to the end of the range
 * Limits  memory is the caller's: it passes rows in pieces. Rows never meet, so pieces give the bytes of the whole.
 * Errors  ServingError CHECKPOINT_INVALID naming the tensor, row and column of a NaN or infinity
 * Source  ONNX Runtime ContribOperators.md "MatMulNBits"; the signed maximum as in llama.cpp's Q4_0
 */
import assert from 'node:assert/strict';
import { ServingError } from '../../proto/errors.js';
import { searchEightBits } from './eight-bit-search.js';
import { roundToHalf } from './half.js';
import { found, searchAsymmetric, searchSymmetric } from './scale-search.js';
import { chosen, searchWeighted } from './weighted-search.js';

export type QuantisedBits = 4 | 8;

/** What MatMulNBits takes on CPU. */
export const BLOCK_SIZES: readonly number[] = [16, 32, 64, 128, 256];

export interface BlockFormat {
  bits: QuantisedBits;
  /** Weights that share a scale. */
  blockSize: number;
  /** Without zero points. */
  symmetric: boolean;
  /** Scales by search, not by the largest value alone. */
  search: boolean;
  /** Scales are float16 numbers, which our own kernels keep. */
  half?: boolean;
}

export interface QuantisedRows {
  /** [rows, blocks, blockSize · bits / 8] */
  packed: Uint8Array;
  /** [rows, blocks] */
  scales: Float32Array;
  /** [rows, blocks], one a byte whatever the bits (packZeroPoints); of our own kernels any number; null: symmetric */
  zeroPoints: Uint8Array | Float32Array | null;
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
 * @param importance of each column, for a search with half scales and zero points (weighted-search.ts); null: all alike
 */
export function quantiseRows(
  weights: Float32Array,
  rows: number,
  columns: number,
  format: BlockFormat,
  label = 'weights',
  firstRow = 0,
  importance: Float32Array | null = null,
): QuantisedRows {
  const { bits, blockSize, symmetric } = format;
  assert(weights.length === rows * columns, `${label}: ${weights.length} weights, not ${rows} × ${columns}`);
  assert(BLOCK_SIZES.includes(blockSize), `block size ${blockSize}`);
  const blocks = blocksPerRow(columns, blockSize);
  const packed = new Uint8Array(rows * blocks * blockBytes(bits, blockSize));
  const scales = new Float32Array(rows * blocks);
  const middle = 2 ** (bits - 1);
  const isWeighted = !symmetric && format.half === true && format.search && bits === 4;
  const zeroPoints = symmetric
    ? null
    : isWeighted
      ? new Float32Array(rows * blocks).fill(middle)
      : new Uint8Array(rows * blocks).fill(middle);
  const weightBits = new Int32Array(weights.buffer, weights.byteOffset, weights.length);
  const isSearched = format.search && bits === 4;
  const isEightSearched = format.search && bits === 8 && symmetric && format.half === true;
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
      if (isWeighted) {
        searchWeighted(weights, start, end, importance, row * columns);
        found.set(chosen);
      } else if (!symmetric) findAsymmetric(weights, start, end, 2 ** bits - 1, isSearched);
      else if (isSearched) searchSymmetric(weights, start, end, weights[largest]!);
      else if (isEightSearched) {
        found[0] = searchEightBits(weights, start, end, weights[largest]!, importance, row * columns);
        found[1] = middle;
      } else {
        found[0] = -weights[largest]! / middle;
        found[1] = middle;
      }
      const scale = format.half ? roundToHalf(found[0]!) : Math.fround(found[0]!);
      if (scale === 0 || !Number.isFinite(scale)) {
        if (scale !== 0) throw tooLarge(label, firstRow + row, weights[largest]!);
        packed.fill(bits === 4 ? 0x88 : 0x80, block * bytes, (block + 1) * bytes);
        continue;
      }
      const zero = found[1]!;
      scales[block] = scale;
      if (zeroPoints) zeroPoints[block] = zero;
      const written = pack(weights, start, end, 1 / scale, zero, packed, block * bytes);
      if (end - start < blockSize) packed.fill(paddingOf(bits, zero), written, (block + 1) * bytes);
    }
  }
  return { packed, scales, zeroPoints };
}

/** Columns that are not there: the code nearest to 0. They meet inputs of 0 alone. */
function paddingOf(bits: QuantisedBits, zero: number): number {
  if (bits === 8) return zero;
  return Math.max(0, Math.min(15, Math.round(zero))) * 0x11;
}

/** Beyond what a float16 scale can stand for. */
const tooLarge = (label: string, row: number, weight: number): ServingError =>
  new ServingError(
    'CHECKPOINT_INVALID',
    `Tensor ${label} has ${weight} in row ${row}: a scale for it would be beyond float16; use dtype fp32`,
  );

/** Leaves scale and zero point in `found`. */
function findAsymmetric(
  weights: Float32Array,
  start: number,
  end: number,
  levels: number,
  isSearched: boolean,
): void {
  let low = 0;
  let high = 0;
  for (let index = start; index < end; index++) {
    const weight = weights[index]!;
    if (weight < low) low = weight;
    else if (weight > high) high = weight;
  }
  if (isSearched) {
    searchAsymmetric(weights, start, end, low, high);
    return;
  }
  // Each end divided for itself: their difference may be beyond float32.
  const scale = high / levels - low / levels;
  found[0] = scale;
  found[1] = Math.round(-low / scale);
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
 * Two weights a byte: w / scale + zero, rounded to the nearest level in 0 … 15.
 *
 * @returns index after the last byte written
 */
function packNibbles(
  weights: Float32Array,
  start: number,
  end: number,
  inverse: number,
  zero: number,
  packed: Uint8Array,
  into: number,
): number {
  const half = zero + 0.5;
  let out = into;
  let index = start;
  for (; index + 1 < end; index += 2) {
    // In a column that doesn't count it may be any number, beyond 32 bits too.
    const even = weights[index]! * inverse + half;
    const odd = weights[index + 1]! * inverse + half;
    packed[out++] =
      (even < 0 ? 0 : even > 15 ? 15 : even | 0) | ((odd < 0 ? 0 : odd > 15 ? 15 : odd | 0) << 4);
  }
  if (index < end) {
    const even = weights[index]! * inverse + half;
    packed[out++] = (even < 0 ? 0 : even > 15 ? 15 : even | 0) | (paddingOf(4, zero) & 0xf0);
  }
  return out;
}

/** One weight a byte, as packNibbles with 256 levels. */
function packBytes(
  weights: Float32Array,
  start: number,
  end: number,
  inverse: number,
  zero: number,
  packed: Uint8Array,
  into: number,
): number {
  const half = zero + 0.5;
  for (let index = start, out = into; index < end; index++, out++) {
    const level = (weights[index]! * inverse + half) | 0;
    packed[out] = level < 0 ? 0 : level > 255 ? 255 : level;
  }
  return into + end - start;
}

/** Bytes of a row of zero points as MatMulNBits takes them. */
export function zeroPointBytes(bits: QuantisedBits, blocks: number): number {
  return Math.ceil((blocks * bits) / 8);
}

/**
 * Zero points as MatMulNBits takes them: with 4 bits two a byte, the even block in the low nibble, every row in bytes of its own.
 *
 * @param zeroPoints [rows, blocks]
 * @returns [rows, zeroPointBytes]
 */
export function packZeroPoints(
  zeroPoints: Uint8Array,
  rows: number,
  blocks: number,
  bits: QuantisedBits,
): Uint8Array {
  if (bits === 8) return zeroPoints;
  const bytes = zeroPointBytes(bits, blocks);
  const packed = new Uint8Array(rows * bytes);
  for (let row = 0; row < rows; row++) {
    for (let block = 0; block < blocks; block++) {
      packed[row * bytes + (block >> 1)]! |= zeroPoints[row * blocks + block]! << (4 * (block & 1));
    }
  }
  return packed;
}

/**
 * The weights that MatMulNBits computes with, written apart from the packing above.
 *
 * @param quantised [rows, ceil(columns / blockSize), …]
 * @returns float32 [rows, columns]
 */
export function dequantiseRows(
  quantised: QuantisedRows,
  rows: number,
  columns: number,
  { bits, blockSize }: Pick<BlockFormat, 'bits' | 'blockSize'>,
): Float32Array {
  const blocks = blocksPerRow(columns, blockSize);
  assert(quantised.scales.length === rows * blocks, `${quantised.scales.length} scales`);
  assert(
    quantised.packed.length === (rows * blocks * blockSize * bits) / 8,
    `${quantised.packed.length} bytes`,
  );
  const { packed, scales, zeroPoints } = quantised;
  const middle = 2 ** (bits - 1);
  const weights = new Float32Array(rows * columns);
  for (let row = 0, block = 0; row < rows; row++) {
    const rowEnd = (row + 1) * columns;
    for (let start = row * columns; start < rowEnd; start += blockSize, block++) {
      const end = Math.min(start + blockSize, rowEnd);
      const scale = scales[block]!;
      const zero = zeroPoints === null ? middle : zeroPoints[block]!;
      let level = block * blockSize;
      if (bits === 8) {
        for (let index = start; index < end; index++) weights[index] = (packed[level++]! - zero) * scale;
        continue;
      }
      for (let index = start; index < end; index++, level++) {
        weights[index] = (((packed[level >> 1]! >> ((level & 1) << 2)) & 15) - zero) * scale;
      }
    }
  }
  return weights;
}
