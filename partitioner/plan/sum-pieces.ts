/**
 * How row-parallel products are cut and added, so that a quantised model gives the same bits at several degrees.
 *
 * A float sum depends on its order, and kernels that round activations to 8 bits make much of a last bit. So row-parallel linears
 * are cut into the same pieces of their inputs at every degree that divides the number of pieces; each piece is a product of its
 * own, and the products are added as a balanced tree, whose lower part a rank computes and whose upper part the all-reduce:
 *
 *   (p0 + p1) + (p2 + p3)      tp 1 all of it, tp 2 one addition a rank, tp 4 none
 *
 * In      ModelShape, weight format, world size
 * Out     pieces of the whole model and of one rank; the block of the MLPs' second linear, which pieces must not cut
 * How     our own kernels sum the pieces themselves, floats too. Elsewhere (ONNX Runtime's operators; attention and MLP side by side,
 *         which are added piece by piece) a piece is a linear of its own, with int8 and int4 only: in fp32 a last bit stays a last bit
 * Limits  not for experts: every expert would be cut, and what is done to their rows after it. Degrees that do not divide the pieces
 *         (3, 6; 8 unless asked for) cut for themselves
 * Pure
 */

import { REPRODUCIBLE_DEGREES } from '../../proto/partition.js';
import { columnUnit, type WeightFormat } from '../quantise/weight-format.js';
import { isEvenDegree, whyNot } from './degrees.js';
import type { ModelShape } from './model-shape.js';

/** Smallest block there is a kernel for. */
const SMALLEST_BLOCK = 16;
/** Likewise of our own kernels. */
const SMALLEST_PANEL_BLOCK = 32;
/** What a block has beside its weights: a scale, and the sum that the kernel keeps with it. */
const BLOCK_EXTRA_BYTES = 8;

/** Pieces of every row-parallel linear, over all ranks: the largest possible degree up to the one asked for. */
export function sumPieces(shape: ModelShape, format: WeightFormat): number {
  const isPlain = format.blockSize === null && format.layout === 'blocks';
  if (isPlain || shape.experts !== null) return 1;
  return (
    REPRODUCIBLE_DEGREES.findLast(
      (degree) =>
        degree <= format.reproducibleDegree &&
        isEvenDegree(shape, degree) &&
        whyNot(shape, format, degree) === null,
    ) ?? 1
  );
}

/** Pieces that a rank holds of every row-parallel linear. */
export function piecesPerRank(shape: ModelShape, format: WeightFormat, worldSize: number): number {
  const pieces = sumPieces(shape, format);
  return pieces % worldSize === 0 ? pieces / worldSize : 1;
}

/** A linear sums its pieces itself. */
export const sumsItself = (shape: ModelShape, format: WeightFormat): boolean =>
  format.layout === 'panels' && shape.residual !== 'parallel';

/** The degrees from 1 on that give the same bits. */
export function reproducibleDegrees(shape: ModelShape, format: WeightFormat): number[] {
  const pieces = sumPieces(shape, format);
  return REPRODUCIBLE_DEGREES.filter((degree) => degree <= pieces);
}

/**
 * Block of an MLP's second linear: the same at every degree. Pieces are whole blocks, so a large block may mean much padding, a
 * small one many scales: the block that makes the MLP's packed weights smallest.
 */
export function downBlock(
  shape: ModelShape,
  format: WeightFormat,
  ffnSize: number,
  isGated: boolean,
): number | null {
  const { blockSize } = format;
  const pieces = sumPieces(shape, format);
  if (blockSize === null || pieces === 1) return blockSize;
  if (format.layout === 'panels') {
    let block = blockSize;
    while (block > SMALLEST_PANEL_BLOCK && ffnSize % (pieces * block) !== 0) block /= 2;
    return block;
  }
  const bits = format.dtype === 'int8' ? 8 : 4;
  const weightBytes = (block: number): number => bits / 8 + BLOCK_EXTRA_BYTES / block;
  const mlpBytes = (block: number): number =>
    padded(ffnSize, pieces, block) * ((isGated ? 2 : 1) * weightBytes(blockSize) + weightBytes(block));
  let best = blockSize;
  for (let block = blockSize / 2; block >= SMALLEST_BLOCK; block /= 2) {
    if (mlpBytes(block) < mlpBytes(best)) best = block;
  }
  return best;
}

/** Hidden units of an MLP on one rank, padding included. @param block of its second linear */
export function ffnPerRank(
  shape: ModelShape,
  format: WeightFormat,
  worldSize: number,
  ffnSize: number,
  block: number | null,
): number {
  const pieces = sumPieces(shape, format);
  const cuts = pieces % worldSize === 0 ? pieces : worldSize;
  return padded(ffnSize, cuts, block ?? columnUnit(format)) / worldSize;
}

/** `total` rounded up to so many equal pieces of whole units. */
const padded = (total: number, pieces: number, unit: number): number =>
  Math.ceil(total / (pieces * unit)) * unit * pieces;
