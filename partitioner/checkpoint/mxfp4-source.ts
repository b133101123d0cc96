/**
 * Stacks of experts in MXFP4 as the floats they are.
 *
 * Layout  `X_blocks` uint8 [experts, out, in / 32, 16]: two values a byte, the even column in the low half; 1 bit of sign, 2 of
 *         exponent, 1 of mantissa. `X_scales` uint8 [experts, out, in / 32]: a power of two, 127 above its exponent.
 * In      TensorSource of the checkpoint
 * Out     TensorSource that has X, float32 [experts, out, in], instead of the two
 * Limits  memory: the experts asked for
 * Errors  ServingError CHECKPOINT_INVALID: blocks without scales, sizes that do not fit, a scale of 255 (no number)
 * Source  Open Compute Project, Microscaling Formats 1.0: E2M1, E8M0
 */
import assert from 'node:assert/strict';
import { ServingError } from '../../proto/errors.js';
import {
  checkRowRange,
  readIntegers,
  requireTensor,
  type SourceFile,
  type TensorInfo,
  type TensorSource,
} from './tensor-source.js';

const BLOCK = 32;
const BLOCK_BYTES = BLOCK / 2;
const NOT_A_NUMBER = 255;
const SCALE_BIAS = 127;

/** By code: sign, magnitude. */
const VALUES = Float32Array.of(0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6);

/** @throws ServingError CHECKPOINT_INVALID */
export function mxfp4Source(source: TensorSource): TensorSource {
  return new Mxfp4Source(source);
}

class Mxfp4Source implements TensorSource {
  readonly tensors: Map<string, TensorInfo>;
  readonly unsupported: Map<string, string>;
  readonly files: readonly SourceFile[];
  readonly #stacks = new Set<string>();

  readonly #source: TensorSource;

  constructor(source: TensorSource) {
    this.#source = source;
    this.tensors = new Map(source.tensors);
    this.unsupported = new Map(source.unsupported);
    this.files = source.files;
    const integers = source.integers ?? new Map();
    for (const [blocksName, { type, shape }] of integers) {
      if (!blocksName.endsWith('_blocks')) continue;
      const name = blocksName.slice(0, -'_blocks'.length);
      const scales = integers.get(`${name}_scales`);
      const [experts = 0, rows = 0, blocks = 0, bytes = 0] = shape;
      const fits = shape.length === 4 && bytes === BLOCK_BYTES && type === 'U8';
      if (!fits || scales?.type !== 'U8' || scales.shape.join() !== [experts, rows, blocks].join()) {
        throw new ServingError(
          'CHECKPOINT_INVALID',
          `Tensor ${blocksName} of type ${type} [${shape.join(', ')}] is no MXFP4: expected U8 [n, rows, blocks, 16], and U8 [n, rows, blocks] as ${name}_scales`,
        );
      }
      this.#stacks.add(name);
      this.tensors.set(name, { name, type: 'float32', shape: [experts, rows, blocks * BLOCK] });
      this.unsupported.delete(blocksName);
      this.unsupported.delete(`${name}_scales`);
    }
  }

  readFloat32(name: string, rowStart: number, rowEnd: number, into?: Float32Array): Float32Array {
    if (!this.#stacks.has(name)) return this.#source.readFloat32(name, rowStart, rowEnd, into);
    const elements = checkRowRange(requireTensor(this, name), rowStart, rowEnd, into);
    const values = into === undefined ? new Float32Array(elements) : into.subarray(0, elements);
    const codes = readIntegers(this.#source, `${name}_blocks`, rowStart, rowEnd);
    const scales = readIntegers(this.#source, `${name}_scales`, rowStart, rowEnd);
    for (let block = 0, out = 0; block < scales.length; block++) {
      const exponent = scales[block]!;
      if (exponent === NOT_A_NUMBER) {
        throw new ServingError('CHECKPOINT_INVALID', `Tensor ${name}_scales has 255, which is no number`);
      }
      const scale = 2 ** (exponent - SCALE_BIAS);
      for (let byte = block * BLOCK_BYTES; byte < (block + 1) * BLOCK_BYTES; byte++) {
        values[out++] = VALUES[codes[byte]! & 15]! * scale;
        values[out++] = VALUES[codes[byte]! >> 4]! * scale;
      }
    }
    return values;
  }

  readBytes(name: string, rowStart: number, rowEnd: number): Uint8Array {
    assert(!this.#stacks.has(name), `${name} has no bytes of its own`);
    return this.#source.readBytes(name, rowStart, rowEnd);
  }

  close(): void {
    this.#source.close();
  }
}
