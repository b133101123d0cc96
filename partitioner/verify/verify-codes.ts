/**
 * What `--verify` expects of a linear that a checkpoint has in 4-bit codes, column by column.
 *
 * In      codes of whole rows, the block that the shards have
 * Out     QuantisedRows of the whole rows
 * Why so  written apart from quantise/coded-blocks.ts: from the meaning of each column, not by moving bytes
 */
import type { CodedInfo, CodedRows } from '../checkpoint/tensor-source.js';
import type { QuantisedRows } from '../quantise/block-quantise.js';

export function expectedCodeBlocks(
  coded: CodedRows,
  { groupSize }: CodedInfo,
  size: { rows: number; columns: number; blockSize: number; factor: number },
): QuantisedRows {
  const { rows, columns, blockSize, factor } = size;
  const blocks = Math.ceil(columns / blockSize);
  const groups = coded.scales.length / rows;
  const packed = new Uint8Array((rows * blocks * blockSize) / 2);
  const scales = new Float32Array(rows * blocks);
  const zeroPoints = new Uint8Array(rows * blocks);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < blocks * blockSize; column++) {
      const block = row * blocks + Math.floor(column / blockSize);
      const group = row * groups + Math.floor(Math.min(column, columns - 1) / groupSize);
      const at = row * Math.ceil(columns / 2) + Math.floor(column / 2);
      const pair = coded.packed[at] ?? 0;
      const isOdd = column % 2 === 1;
      const code = column < columns ? (isOdd ? pair >> 4 : pair % 16) : (coded.zeroPoints[group] ?? 0);
      const place = Math.floor((row * blocks * blockSize + column) / 2);
      packed[place] = (packed[place] ?? 0) + code * (isOdd ? 16 : 1);
      scales[block] = (coded.scales[group] ?? Number.NaN) * factor;
      zeroPoints[block] = coded.zeroPoints[group] ?? 0;
    }
  }
  return { packed, scales, zeroPoints };
}
