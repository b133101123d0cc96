/**
 * In which format weights are written: `--dtype` and `--block-size` → WeightFormat, and the sizes that follow from it.
 *
 * Limits  blocks of 16, 32, 64, 128 or 256 weights (what ONNX Runtime's MatMulNBits has CPU kernels for)
 * Errors  ServingError CONFIG_INVALID
 * Source  design.md D6; reference/onnxruntime.md §2.5
 */
import { ServingError } from '../proto/errors.js';
import type { Manifest } from '../proto/manifest.js';
import { BLOCK_SIZES } from './quantise/block-quantise.js';

export type WeightFormat = Manifest['weightFormat'];
export type Dtype = 'auto' | WeightFormat['dtype'];

export const DTYPES: readonly Dtype[] = ['auto', 'fp32', 'int8', 'int4'];
export const DEFAULT_BLOCK_SIZE = 128;

/** A model that takes less than this in float32 stays in float32: it is small enough not to care. */
export const AUTO_FP32_BYTES = 200_000_000;

/** Rows and columns of a float32 slice are padded to so many: one AVX-512 register. */
const FP32_UNIT = 16;

/** @throws ServingError CONFIG_INVALID: a block size there is no kernel for */
export function chooseWeightFormat(dtype: Dtype, blockSize: number, parameters: number): WeightFormat {
  if (!BLOCK_SIZES.includes(blockSize)) {
    throw new ServingError(
      'CONFIG_INVALID',
      `block size ${blockSize} is not one of ${BLOCK_SIZES.join(', ')}`,
    );
  }
  const chosen = dtype === 'auto' ? (parameters * 4 < AUTO_FP32_BYTES ? 'fp32' : 'int4') : dtype;
  return chosen === 'fp32' ? { dtype: 'fp32', blockSize: null } : { dtype: chosen, blockSize };
}

/** Bits of one stored weight; 32 for fp32. */
export function weightBits(format: WeightFormat): 4 | 8 | 32 {
  return format.dtype === 'int4' ? 4 : format.dtype === 'int8' ? 8 : 32;
}

/** Columns of a row-parallel slice come in multiples of this: whole blocks. */
export function columnUnit(format: WeightFormat): number {
  return format.blockSize ?? FP32_UNIT;
}
