/**
 * Partial sums in a quarter of their bytes, for links that are slower than the processor: blocks of 8-bit numbers with a scale.
 *
 * In      float32 values
 * Out     a scale (float32) for each block, then the numbers (int8), padded to whole words; and values back from them
 * Error   of a value: at most half a step, that is its block's largest magnitude / 254. NaN and infinite values spoil their
 *         block: its scale carries them, so that a sum shows them instead of hiding them
 * Sums    every rank decodes what every rank sent, its own included, so that all of them add the same bits
 */

/** Values that share a scale. */
export const BLOCK_VALUES = 64;
const LARGEST = 127;

const blocksOf = (floats: number): number => Math.ceil(floats / BLOCK_VALUES);

/** Bytes that `floats` values become. */
export const encodedBytes = (floats: number): number => blocksOf(floats) * 4 + Math.ceil(floats / 4) * 4;

/** Views of one piece of memory: the scales of `floats` values and their numbers. Its offset is a multiple of four. */
export interface EncodedValues {
  readonly scales: Float32Array;
  readonly numbers: Int8Array;
}

export function encodedView(buffer: ArrayBufferLike, byteOffset: number, floats: number): EncodedValues {
  const blocks = blocksOf(floats);
  return {
    scales: new Float32Array(buffer, byteOffset, blocks),
    numbers: new Int8Array(buffer, byteOffset + blocks * 4, floats),
  };
}

/** The first `floats` of `values`. */
export function encode(values: Float32Array, floats: number, { scales, numbers }: EncodedValues): void {
  for (let block = 0, start = 0; start < floats; block++, start += BLOCK_VALUES) {
    const end = Math.min(floats, start + BLOCK_VALUES);
    let largest = 0;
    for (let i = start; i < end; i++) {
      const magnitude = Math.abs(values[i]!);
      if (magnitude > largest || Number.isNaN(magnitude)) largest = magnitude;
    }
    scales[block] = largest / LARGEST;
    const scale = scales[block]!;
    const inverse = scale > 0 && scale < Number.POSITIVE_INFINITY ? 1 / scale : 0;
    for (let i = start; i < end; i++) numbers[i] = Math.round(values[i]! * inverse);
    // A block that holds no numbers: 1 · scale is NaN or infinite, 0 · scale is NaN.
    if (inverse === 0 && scale !== 0) numbers.fill(1, start, end);
  }
}

/** values[i] for i < floats. */
export function decode({ scales, numbers }: EncodedValues, values: Float32Array, floats: number): void {
  for (let block = 0, start = 0; start < floats; block++, start += BLOCK_VALUES) {
    const end = Math.min(floats, start + BLOCK_VALUES);
    const scale = scales[block]!;
    for (let i = start; i < end; i++) values[i] = numbers[i]! * scale;
  }
}
