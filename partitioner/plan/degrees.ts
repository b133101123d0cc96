/**
 * Over how many ranks a model can be split.
 *
 * In      ModelShape, weight format
 * Out     whether a degree works, and which do
 * Rules   every rank has a head: KV heads are dealt out, or, fewer than ranks, replicated and the queries of their groups dealt out
 *         (rank-slices.ts). Where ranks' heads are not equally many, those with fewer have zeros in the others' place;
 *         a quantised output projection is cut between heads, which must be a border of its blocks
 * Errors  ServingError TENSOR_PARALLEL_INVALID naming the rule and the degrees that work
 * Pure
 */
import { ServingError } from '../../proto/errors.js';
import { MAX_WORLD_SIZE } from '../../proto/limits.js';
import type { WeightFormat } from '../quantise/weight-format.js';
import { type ModelShape, valueDim } from './model-shape.js';
import { headSlices } from './rank-slices.js';

/** The output projection's blocks are chosen so that they can be cut up to this degree. */
const COMMON_DEGREE = 8;
/** Smallest block that ONNX Runtime has kernels for, and ours. */
const SMALLEST_BLOCK = { blocks: 16, panels: 32 } as const;

/** Each `width` columns have zeros behind them, up to `padded`. */
export interface Padding {
  width: number;
  padded: number;
}

/** @throws ServingError TENSOR_PARALLEL_INVALID */
export function checkDegree(shape: ModelShape, format: WeightFormat, degree: number): void {
  const reason = whyNot(shape, format, degree);
  if (reason === null) return;
  throw new ServingError(
    'TENSOR_PARALLEL_INVALID',
    `tensor parallel degree ${degree}: ${reason}; degrees that work: ${possibleDegrees(shape, format).join(', ')}`,
  );
}

/** Degrees that work, ascending; 1 is always among them. */
export function possibleDegrees(shape: ModelShape, format: WeightFormat): number[] {
  const degrees: number[] = [];
  for (let degree = 1; degree <= MAX_WORLD_SIZE; degree++) {
    if (whyNot(shape, format, degree) === null) degrees.push(degree);
  }
  return degrees;
}

/**
 * Block of the output projection: the same at every degree, so that every degree has the same model. The largest power of
 * two up to the block asked for that divides a rank's columns at the largest common degree.
 */
export function attentionOutBlock(shape: ModelShape, format: WeightFormat): number | null {
  if (format.blockSize === null) return null;
  const columns = commonColumns(shape);
  const smallest = SMALLEST_BLOCK[format.layout];
  let block = format.blockSize;
  while (block > smallest && columns % block !== 0) block /= 2;
  return block;
}

/** Columns of the output projection on a rank at the largest common degree. */
function commonColumns(shape: ModelShape): number {
  let degree = COMMON_DEGREE;
  while (!isEvenDegree(shape, degree)) degree--;
  return (shape.numHeads / degree) * valueDim(shape);
}

/**
 * Where even the smallest block of our own kernels would cross a cut between heads, each head is padded with zeros to whole
 * blocks; null: no need.
 */
export function attentionOutPadding(shape: ModelShape, format: WeightFormat): Padding | null {
  const smallest = SMALLEST_BLOCK.panels;
  if (format.layout === 'blocks' || format.blockSize === null || commonColumns(shape) % smallest === 0) {
    return null;
  }
  return { width: valueDim(shape), padded: Math.ceil(valueDim(shape) / smallest) * smallest };
}

/** The rule that a degree breaks, or null. */
export function whyNot(shape: ModelShape, format: WeightFormat, degree: number): string | null {
  if (!Number.isSafeInteger(degree) || degree < 1 || degree > MAX_WORLD_SIZE) {
    return `expected a whole number from 1 to ${MAX_WORLD_SIZE}`;
  }
  const { numHeads, numKvHeads } = shape;
  const heads = headSlices(numHeads, numKvHeads, degree);
  if (heads === null) {
    return `a rank would be empty: there are ${numHeads} attention heads, ${numHeads / numKvHeads} for each of ${numKvHeads} KV heads`;
  }
  const block = attentionOutBlock(shape, format);
  if (block === null || degree === 1 || attentionOutPadding(shape, format) !== null) return null;
  for (const { query } of heads) {
    const columns = query.count * valueDim(shape);
    if (columns % block !== 0) {
      return `a rank's ${columns} columns of the ${format.dtype} output projection are no whole blocks of ${block}`;
    }
  }
  return null;
}

/** Every rank has as many heads as every other. */
export const isEvenDegree = ({ numHeads, numKvHeads }: ModelShape, degree: number): boolean =>
  numHeads % degree === 0 && (numKvHeads % degree === 0 || degree % numKvHeads === 0);
