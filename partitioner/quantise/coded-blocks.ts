/**
 * A checkpoint's own codes in MatMulNBits' blocks: nothing is rounded.
 *
 * In      codes of some rows, in groups of columns
 * Out     QuantisedRows, of 4 bits with zero points; a group's scale stands once for each of its blocks
 * Source  block-quantise.ts for the layout
 */
import assert from 'node:assert/strict';
import type { CodedInfo, CodedRows } from '../checkpoint/tensor-source.js';
import { blockBytes, blocksPerRow, type QuantisedRows } from './block-quantise.js';

/** Of 8 bits. */
const MIDDLE = 128;

/**
 * @param rows number of rows
 * @param info groups are a multiple of blockSize
 * @param factor of the weights
 */
export function codedBlocks(
  coded: CodedRows,
  rows: number,
  columns: number,
  { bits = 4, groupSize }: CodedInfo,
  blockSize: number,
  factor: number,
): QuantisedRows {
  assert(groupSize % blockSize === 0, `blocks of ${blockSize} in groups of ${groupSize}`);
  assert((columns * bits) % 8 === 0, `${columns} columns`);
  const blocks = blocksPerRow(columns, blockSize);
  const groups = Math.ceil(columns / groupSize);
  const packed = new Uint8Array(rows * blocks * blockBytes(bits, blockSize));
  const scales = new Float32Array(rows * blocks);
  const zeroPoints = bits === 8 ? null : new (zerosOf(coded))(rows * blocks);
  const rowBytes = (columns * bits) / 8;
  const paddedBytes = blocks * blockBytes(bits, blockSize);
  for (let row = 0; row < rows; row++) {
    packed.set(coded.packed.subarray(row * rowBytes, (row + 1) * rowBytes), row * paddedBytes);
    for (let block = 0; block < blocks; block++) {
      const group = row * groups + Math.floor((block * blockSize) / groupSize);
      scales[row * blocks + block] = coded.scales[group]! * factor;
      if (zeroPoints !== null) zeroPoints[row * blocks + block] = coded.zeroPoints[group]!;
    }
    if (rowBytes === paddedBytes) continue;
    // Columns past the last are the zero point, which is exactly 0.
    const last = zeroPoints === null ? MIDDLE : zeroPoints[(row + 1) * blocks - 1]!;
    assert(Number.isInteger(last), 'padding needs a zero point that is a code');
    packed.fill(bits === 8 ? last : last * 0x11, row * paddedBytes + rowBytes, (row + 1) * paddedBytes);
  }
  return { packed, scales, zeroPoints };
}

const zerosOf = ({ zeroPoints }: CodedRows): Uint8ArrayConstructor | Float32ArrayConstructor =>
  zeroPoints instanceof Uint8Array ? Uint8Array : Float32Array;
