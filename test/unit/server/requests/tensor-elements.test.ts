/** Elements of tensors: every type there and back, the ends of each, and float32 told apart in nine digits. */
import { describe, expect, it } from 'vitest';
import type { TensorType } from '../../../../server/requests/predict-request.js';
import {
  elementsOfTensor,
  packedElements,
  shortDecimal,
} from '../../../../server/requests/tensor-elements.js';
import { elementsOf } from '../../../../server/requests/tensor-types.js';
import { seededRandom, testSeed } from '../../../fixtures/seeded-random.js';

const back = (type: TensorType, elements: readonly unknown[], shift = 0) => {
  const bytes = packedElements('x', elements, type);
  const moved = new Uint8Array(bytes.length + shift);
  moved.set(bytes, shift);
  return elementsOfTensor({ name: 'x', type, shape: [elements.length], bytes: moved.subarray(shift) });
};

describe('a shape', () => {
  it.each([
    [[65_536, 0], 0],
    [[0], 0],
    [[3, 2], 6],
    [[], 1],
  ])('%j has %i elements', (shape, count) => {
    expect(elementsOf('x', shape)).toBe(count);
  });

  it.each([
    [[65_537, 0], /has no elements, but 65537 along its other axes, of at most 65536/],
    [[0, 1000, 1000], /has no elements, but 1000000 along its other axes/],
    [[2 ** 31], /has 2147483648 elements, of at most 2147483647/],
    [[-1], /is not made of whole numbers/],
  ])('%j is refused', (shape, words) => {
    expect(() => elementsOf('x', shape)).toThrow(words);
  });
});

describe('elements', () => {
  it.each([
    ['UINT8', [0, 255]],
    ['UINT16', [0, 65_535]],
    ['UINT32', [0, 2 ** 32 - 1]],
    ['UINT64', [0, 2 ** 32, 2 ** 53 - 1, 2 ** 63]],
    ['INT8', [-128, 127]],
    ['INT16', [-32_768, 32_767]],
    ['INT32', [-(2 ** 31), 2 ** 31 - 1]],
    ['INT64', [-1, -(2 ** 32), -(2 ** 32) - 1, 2 ** 53 - 1, -(2 ** 53) + 1, -(2 ** 63)]],
    ['FP16', [0, 1.5, -65_504, 2 ** -24]],
    ['FP32', [0, 1.5, -0.25, 3.5e38 / 2, 1e-40]],
    ['FP64', [Math.PI, -1e-300]],
    ['BOOL', [true, false]],
    ['BYTES', ['', 'ß', 'abc']],
  ] as const)('of %s come back, wherever they begin', (type, elements) => {
    const wanted =
      type === 'FP32' ? elements.map((one) => shortDecimal(Math.fround(one as number))) : [...elements];
    expect(back(type, elements)).toEqual(wanted);
    expect(back(type, elements, 3)).toEqual(wanted);
  });

  it('of 64 bits are those that a view of the bytes reads', () => {
    const numbers = [-1, -(2 ** 40) - 5, 7, 2 ** 52 + 1];
    const view = new DataView(packedElements('x', numbers, 'INT64').buffer);
    expect(numbers.map((_, at) => Number(view.getBigInt64(8 * at, true)))).toEqual(numbers);
  });

  it.each([
    ['UINT8', 256, 'Input x is UINT8, from 0 to 255, but holds 256'],
    [
      'INT64',
      2 ** 63,
      'Input x is INT64, from -9223372036854775808 to 9223372036854775807, but holds 9223372036854776000',
    ],
    ['INT32', 0.5, 'Input x is INT32, from -2147483648 to 2147483647, but holds 0.5'],
    ['FP32', 'a', 'Input x is FP32, but holds a string'],
    ['FP32', null, 'Input x holds null, where a number, a string or a truth value is wanted'],
    ['FP32', [1], 'Input x holds a object, where a number, a string or a truth value is wanted'],
    ['BOOL', 2, 'Input x is BOOL, but holds 2'],
    ['BYTES', 2, 'Input x is BYTES: its elements are strings, not a number'],
  ] as const)('of %s refuse %s in words', (type, element, words) => {
    expect(() => packedElements('x', [element], type)).toThrow(words);
  });

  it(`of float32 have nine digits at most, and are told apart (TEST_SEED=${testSeed})`, () => {
    const random = seededRandom(testSeed);
    const bits = new Uint32Array(1);
    const wrong: number[] = [];
    const float = new Float32Array(bits.buffer);
    for (let round = 0; round < 20_000; round++) {
      bits[0] = random.integer(0, 2 ** 32 - 1);
      if (!Number.isFinite(float[0]!)) continue;
      const told = shortDecimal(float[0]!);
      if (Math.fround(told) !== float[0] || Number(told.toPrecision(9)) !== told) wrong.push(float[0]!);
    }
    expect(wrong).toEqual([]);
  });
});
