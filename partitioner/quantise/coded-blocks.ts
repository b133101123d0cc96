/**
 * A checkpoint's own 4-bit codes in MatMulNBits' blocks: nothing is rounded.
 *
 * In      codes of some rows, in groups of columns
 * Out     QuantisedRows with zero points; a group's scale stands once for each of its blocks
 * Source  block-quantise.ts for the layout
 */
import assert from 'node:assert/strict';
import type { CodedRows } from '../checkpoint/tensor-source.js';
import { blockBytes, blocksPerRow, type QuantisedRows } from './block-quantise.js';

/**
 * @param rows number of rows
 * @param groupSize columns of a group: a multiple of blockSize
 * @param factor of the weights
 */
export function codedBlocks(
  coded: CodedRows,
  rows: number,
  columns: number,
  groupSize: number,
  blockSize: number,
  factor: number,
): QuantisedRows & { zeroPoints: Uint8Array } {
  assert(groupSize % blockSize === 0, `blocks of ${blockSize} in groups of ${groupSize}`);
  assert(columns % 2 === 0, `${columns} columns`);
  const blocks = blocksPerRow(columns, blockSize);
  const groups = Math.ceil(columns / groupSize);
  const packed = new Uint8Array(rows * blocks * blockBytes(4, blockSize));
  const scales = new Float32Array(rows * blocks);
  const zeroPoints = new Uint8Array(rows * blocks);
  const rowBytes = columns / 2;
  const paddedBytes = blocks * blockBytes(4, blockSize);
  for (let row = 0; row < rows; row++) {
    packed.set(coded.packed.subarray(row * rowBytes, (row + 1) * rowBytes), row * paddedBytes);
    for (let block = 0; block < blocks; block++) {
      const group = row * groups + Math.floor((block * blockSize) / groupSize);
      scales[row * blocks + block] = coded.scales[group]! * factor;
      zeroPoints[row * blocks + block] = coded.zeroPoints[group]!;
    }
    // Columns past the last are the zero point, which is exactly 0.
    const last = zeroPoints[(row + 1) * blocks - 1]!;
    packed.fill(last * 0x11, row * paddedBytes + rowBytes, (row + 1) * paddedBytes);
  }
  return { packed, scales, zeroPoints };
}
