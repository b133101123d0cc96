/**
 * In which format weights are written: `--dtype`, `--block-size`, … → WeightFormat, and the sizes that follow from it.
 *
 * Limits  blocks of 16, 32, 64, 128 or 256 weights (what ONNX Runtime's MatMulNBits has CPU kernels for)
 * Errors  ServingError CONFIG_INVALID
 * Source  design.md D6; reference/onnxruntime.md §2.5
 */
import { ServingError } from '../proto/errors.js';
import type { Manifest } from '../proto/manifest.js';
import { BLOCK_SIZES, type BlockFormat, type QuantisedBits } from './quantise/block-quantise.js';

export type WeightFormat = Manifest['weightFormat'];
export type Dtype = 'auto' | WeightFormat['dtype'];
export type BatchWeights = 'none' | NonNullable<WeightFormat['batch']>;
export type EightBitGroup = WeightFormat['eightBit'][number];

export const DTYPES: readonly Dtype[] = ['auto', 'fp32', 'int8', 'int4'];
export const BATCH_WEIGHTS: readonly BatchWeights[] = ['none', 'int8'];
export const DEFAULT_BLOCK_SIZE = 128;
export const REPRODUCIBLE_DEGREES = [1, 2, 4, 8] as const;
export const DEFAULT_REPRODUCIBLE_DEGREE = 4;
export const EIGHT_BIT_GROUPS: readonly EightBitGroup[] = ['head', 'first', 'last', 'down'];

/** A model that takes less than this in float32 stays in float32: it is small enough not to care. */
export const AUTO_FP32_BYTES = 200_000_000;

/** Rows and columns of a float32 slice are padded to so many: one AVX-512 register. */
const FP32_UNIT = 16;

export const FP32_FORMAT: WeightFormat = {
  dtype: 'fp32',
  blockSize: null,
  symmetric: true,
  scales: 'nearest',
  eightBit: [],
  reproducibleDegree: 1,
};

/** What a user may say of it; what is left out is the default. */
export interface FormatOptions {
  dtype?: Dtype | undefined;
  /** Weights that share a scale (int8, int4). */
  blockSize?: number | undefined;
  /** false: each block has a zero point. */
  symmetric?: boolean | undefined;
  scales?: WeightFormat['scales'] | undefined;
  /** Linears that int4 leaves at 8 bits. */
  eightBit?: readonly EightBitGroup[] | undefined;
  /** int8 and int4 give the same bits at every degree that divides it (degrees.ts). */
  reproducibleDegree?: WeightFormat['reproducibleDegree'] | undefined;
  /** int8: quantised weights are written a second time for steps of many rows (quantise/output-quantise.ts). */
  batchWeights?: BatchWeights | undefined;
}

/** @throws ServingError CONFIG_INVALID: a block size there is no kernel for */
export function chooseWeightFormat(options: FormatOptions, parameters: number): WeightFormat {
  const { dtype = 'auto', blockSize = DEFAULT_BLOCK_SIZE } = options;
  const { symmetric = true, scales = 'search', eightBit = [] } = options;
  const { reproducibleDegree = DEFAULT_REPRODUCIBLE_DEGREE } = options;
  if (!BLOCK_SIZES.includes(blockSize)) {
    throw new ServingError(
      'CONFIG_INVALID',
      `block size ${blockSize} is not one of ${BLOCK_SIZES.join(', ')}`,
    );
  }
  const { batchWeights = 'none' } = options;
  if (!BATCH_WEIGHTS.includes(batchWeights)) {
    throw new ServingError(
      'CONFIG_INVALID',
      `batch weights ${batchWeights} are not one of ${BATCH_WEIGHTS.join(', ')}`,
    );
  }
  const chosen = dtype === 'auto' ? (parameters * 4 < AUTO_FP32_BYTES ? 'fp32' : 'int4') : dtype;
  if (chosen === 'fp32') return FP32_FORMAT;
  const batch = batchWeights === 'none' ? {} : { batch: batchWeights };
  const common = { dtype: chosen, blockSize, symmetric, reproducibleDegree, ...batch };
  if (chosen === 'int8') return { ...common, scales: 'nearest', eightBit: [] };
  return { ...common, scales, eightBit: EIGHT_BIT_GROUPS.filter((group) => eightBit.includes(group)) };
}

/**
 * Bits of a linear's stored weights.
 *
 * @param linear name of its item: head, layer-0.qkv, layer-0.attention-out, layer-0.gate-up, layer-0.down, …
 * @returns null: float32
 */
export function linearBits(format: WeightFormat, linear: string, numLayers: number): QuantisedBits | null {
  if (format.dtype === 'fp32') return null;
  if (format.dtype === 'int8') return 8;
  const isIn: Record<EightBitGroup, boolean> = {
    head: linear === 'head',
    first: linear.startsWith('layer-0.'),
    last: linear.startsWith(`layer-${numLayers - 1}.`),
    down: linear.endsWith('.down'),
  };
  return format.eightBit.some((group) => isIn[group]) ? 8 : 4;
}

/** Whose codes a checkpoint has: this linear's, only those of others, or none at all (coded-format.ts). */
export type Codes = 'own' | 'others' | 'none';

/** What is in codes of a linear that is made of `sources`. */
export function codesOf(coded: ReadonlyMap<string, unknown>, sources: readonly string[]): Codes {
  if (coded.size === 0) return 'none';
  return sources.every((source) => coded.has(source)) ? 'own' : 'others';
}

/** How a linear is quantised; null: float32. @param blockSize of the quantised linear */
export function linearFormat(
  format: WeightFormat,
  linear: string,
  numLayers: number,
  blockSize: number | null,
  codes: Codes,
): BlockFormat | null {
  if (blockSize === null || format.dtype === 'fp32') return null;
  const isInt4 = format.dtype === 'int4';
  if (isInt4 && codes === 'own') return { bits: 4, blockSize, symmetric: false, search: false };
  const bits = isInt4 && codes === 'others' ? 8 : linearBits(format, linear, numLayers);
  if (bits === null) return null;
  return { bits, blockSize, symmetric: format.symmetric, search: format.scales === 'search' };
}

/** Columns of a row-parallel slice come in multiples of this: whole blocks. */
export function columnUnit(format: WeightFormat): number {
  return format.blockSize ?? FP32_UNIT;
}
