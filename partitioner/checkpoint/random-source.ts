/**
 * Weights for `--random-weights`: any list of tensors, filled with noise, so that speed can be measured without a checkpoint.
 *
 * In      tensors and a seed
 * Out     TensorSource; the same values for the same name, seed and row, however the rows are asked for
 * How     one block of BLOCK_ELEMENTS random values, made once; each row is a run of it that begins at a place of its own, so
 *         filling is a copy. No two rows of a tensor are equal up to BLOCK_ELEMENTS rows.
 * Values  uniform k · 2^-12 with |k| ≤ 141: mean 0, deviation 0.02 (the usual initializer_range), and exact in all three
 *         stored types. A vector whose name has `norm` in it is 1 ± 0.07.
 * Errors  as TensorSource
 */
import assert from 'node:assert/strict';
import {
  checkRowRange,
  requireTensor,
  rowShape,
  STORED_TYPE_BYTES,
  type StoredType,
  type TensorInfo,
  type TensorSource,
} from './tensor-source.js';

/** 16 MiB of float32: too long for a row to meet itself, short enough to make in a few tens of milliseconds. */
const BLOCK_ELEMENTS = 1 << 22;

/** Places of neighbouring rows; odd, so that the first BLOCK_ELEMENTS rows all begin elsewhere. About block / golden ratio. */
const ROW_STRIDE = 2_592_221;

const LARGEST_STEP = 141;
const STEP = 2 ** -12;

/**
 * @param tensors names must differ
 * @param seed any integer; another seed gives other weights
 */
export function randomSource(tensors: readonly TensorInfo[], seed: number): TensorSource {
  const byName = new Map(tensors.map((info) => [info.name, info]));
  assert(byName.size === tensors.length, 'a tensor name occurs twice');
  return new RandomSource(byName, seed);
}

class RandomSource implements TensorSource {
  readonly files = [];
  readonly #block: Float32Array;

  readonly #seed: number;

  constructor(
    readonly tensors: ReadonlyMap<string, TensorInfo>,
    seed: number,
  ) {
    this.#seed = seed;
    this.#block = randomBlock(seed);
  }

  readFloat32(name: string, rowStart: number, rowEnd: number, into?: Float32Array): Float32Array {
    const info = requireTensor(this, name);
    const elements = checkRowRange(info, rowStart, rowEnd, into);
    const values = into === undefined ? new Float32Array(elements) : into.subarray(0, elements);
    const origin = hash(name, this.#seed);
    if (info.shape.length <= 1) {
      // One run for the whole vector: its rows have one element each.
      this.#copyRun(values, origin + rowStart);
      if (name.includes('norm')) nearOne(values);
      return values;
    }
    const { rowElements } = rowShape(info.shape);
    if (rowElements === 0) return values;
    for (let row = rowStart; row < rowEnd; row++) {
      const at = (row - rowStart) * rowElements;
      // Row numbers are far below 2^31 and the stride below 2^22: the product is exact.
      this.#copyRun(values.subarray(at, at + rowElements), origin + row * ROW_STRIDE);
    }
    return values;
  }

  readBytes(name: string, rowStart: number, rowEnd: number): Uint8Array {
    const { type } = requireTensor(this, name);
    return toStoredBytes(this.readFloat32(name, rowStart, rowEnd), type);
  }

  close(): void {}

  /** Fills `into` from place `start` of the block, which goes round. */
  #copyRun(into: Float32Array, start: number): void {
    let from = start % BLOCK_ELEMENTS;
    for (let done = 0; done < into.length; ) {
      const count = Math.min(into.length - done, BLOCK_ELEMENTS - from);
      into.set(this.#block.subarray(from, from + count), done);
      done += count;
      from = 0;
    }
  }
}

/** xorshift32 (Marsaglia 2003): quick, and good enough for noise. */
function randomBlock(seed: number): Float32Array {
  const block = new Float32Array(BLOCK_ELEMENTS);
  // xorshift stays at 0 for ever, so 0 is not a state.
  let state = hash('block', seed) | 1;
  for (let index = 0; index < block.length; index++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    block[index] = (((state >>> 8) % (2 * LARGEST_STEP + 1)) - LARGEST_STEP) * STEP;
  }
  return block;
}

/** FNV-1a over seed and name. @returns 32 bits, unsigned */
function hash(name: string, seed: number): number {
  let value = 0x811c9dc5;
  for (const byte of Buffer.from(`${seed}\n${name}`)) value = Math.imul(value ^ byte, 0x01000193);
  return value >>> 0;
}

/** Noise → 1 + j/128 with |j| ≤ 9: exact in bfloat16, whose steps are 1/128 there. */
function nearOne(values: Float32Array): void {
  for (let index = 0; index < values.length; index++) {
    values[index] = 1 + Math.round(values[index]! / STEP / 16) / 128;
  }
}

/** @param values exact in every stored type and no subnormal of one: the bits only move */
function toStoredBytes(values: Float32Array, type: StoredType): Uint8Array {
  if (type === 'float32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = new Uint16Array(values.length);
  for (let index = 0; index < bits.length; index++) {
    const bit = bits[index]!;
    if (type === 'bfloat16') halves[index] = bit >>> 16;
    else {
      const magnitude = bit & 0x7fffffff;
      // The exponent's bias falls from 127 to 15.
      halves[index] = ((bit >>> 16) & 0x8000) | (magnitude === 0 ? 0 : (magnitude >>> 13) - (112 << 10));
    }
  }
  assert(halves.BYTES_PER_ELEMENT === STORED_TYPE_BYTES[type]);
  return new Uint8Array(halves.buffer);
}
