/**
 * What `--verify` expects of a linear that a checkpoint has in codes, column by column.
 *
 * In      codes of whole rows, the block that the shards have
 * Out     QuantisedRows of the whole rows
 * Why so  written apart from quantise/coded-blocks.ts: from the meaning of each column, not by moving bytes
 */
import type { CodedInfo, CodedRows } from '../checkpoint/tensor-source.js';
import type { QuantisedRows } from '../quantise/block-quantise.js';

export function expectedCodeBlocks(
  coded: CodedRows,
  { bits = 4, groupSize }: CodedInfo,
  size: { rows: number; columns: number; blockSize: number; factor: number },
): QuantisedRows {
  const { rows, columns, blockSize, factor } = size;
  const blocks = Math.ceil(columns / blockSize);
  const groups = coded.scales.length / rows;
  const packed = new Uint8Array((rows * blocks * blockSize * bits) / 8);
  const scales = new Float32Array(rows * blocks);
  const zeroPoints = bits === 8 ? null : new Float32Array(rows * blocks);
  const zeroOf = (group: number): number => (bits === 8 ? 128 : (coded.zeroPoints[group] ?? 0));
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < blocks * blockSize; column++) {
      const block = row * blocks + Math.floor(column / blockSize);
      const group = row * groups + Math.floor(Math.min(column, columns - 1) / groupSize);
      const code = column < columns ? codeOf(coded.packed, bits, row * columns + column) : zeroOf(group);
      const index = row * blocks * blockSize + column;
      const place = Math.floor((index * bits) / 8);
      packed[place] = (packed[place] ?? 0) + code * (bits === 4 && index % 2 === 1 ? 16 : 1);
      scales[block] = (coded.scales[group] ?? Number.NaN) * factor;
      if (zeroPoints) zeroPoints[block] = zeroOf(group);
    }
  }
  return { packed, scales, zeroPoints };
}

/** The code of one column; a row has an even number of them. */
function codeOf(packed: Uint8Array, bits: 4 | 8, index: number): number {
  if (bits === 8) return packed[index] ?? 0;
  const pair = packed[Math.floor(index / 2)] ?? 0;
  return index % 2 === 1 ? pair >> 4 : pair % 16;
}
