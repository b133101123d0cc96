/**
 * The elements of a tensor as JSON has them, and their bytes: loops without a call an element, since a picture has a hundred thousand.
 *
 * In      numbers, truth values and strings, by the tensor's type; its bytes, little endian as this host's
 * Out     the bytes; the elements in row-major order, float32 in as few digits as tell one from the next
 * Limits  int64 beyond 2^53 is a number that JSON rounds
 * Errors  ServingError BAD_REQUEST naming the input and the first element that does not fit
 * Pure
 */
import { ServingError } from '../../proto/errors.js';
import { readHalf, writeHalf } from './half-float.js';
import type { NamedTensor, TensorType } from './predict-request.js';
import { ELEMENT_BYTES, elementsOf, packStrings, unpackStrings } from './tensor-types.js';

type Element = number | boolean | string;
type Numbers = Exclude<TensorType, 'BYTES' | 'BOOL'>;

const WORD = 2 ** 32;

const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);

/** The least, and the first that is too large: as numbers, which both always are. */
const INTEGERS: Readonly<Partial<Record<TensorType, readonly [number, number]>>> = {
  UINT8: [0, 2 ** 8],
  UINT16: [0, 2 ** 16],
  UINT32: [0, 2 ** 32],
  UINT64: [0, 2 ** 64],
  INT8: [-(2 ** 7), 2 ** 7],
  INT16: [-(2 ** 15), 2 ** 15],
  INT32: [-(2 ** 31), 2 ** 31],
  INT64: [-(2 ** 63), 2 ** 63],
};

const ARRAYS = {
  ...{ UINT8: Uint8Array, UINT16: Uint16Array, UINT32: Uint32Array, UINT64: Uint32Array },
  ...{ INT8: Int8Array, INT16: Int16Array, INT32: Int32Array, INT64: Uint32Array },
  ...{ FP16: Uint16Array, FP32: Float32Array, FP64: Float64Array },
} as const;

/** @throws ServingError BAD_REQUEST */
export function packedElements(name: string, elements: readonly unknown[], type: TensorType): Uint8Array {
  if (type === 'BYTES') return packStrings(elements.map((one) => stringOf(name, one)));
  if (type === 'BOOL') return Uint8Array.from(elements, (one) => truthOf(name, one));
  const count = elements.length;
  const data = new ArrayBuffer(count * (ELEMENT_BYTES[type] ?? 0));
  const array = new ARRAYS[type](data);
  const [least, over] = INTEGERS[type] ?? [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
  const isWhole = INTEGERS[type] !== undefined;
  const isWide = type === 'INT64' || type === 'UINT64';
  const isHalf = type === 'FP16';
  for (let at = 0; at < count; at++) {
    const one = elements[at];
    if (typeof one !== 'number') throw notNumber(name, one, type);
    if (isWhole && !(one >= least && one < over && Math.floor(one) === one)) throw notWhole(name, one, type);
    if (isWide) {
      // Exact: a whole number's halves are whole numbers.
      const high = Math.floor(one / WORD);
      array[2 * at] = one - high * WORD;
      array[2 * at + 1] = high;
    } else array[at] = isHalf ? writeHalf(one) : one;
  }
  return new Uint8Array(data);
}

function wanted(name: string, value: unknown): void {
  if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'string') return;
  throw bad(
    `Input ${name} holds ${value === null ? 'null' : `a ${typeof value}`}, where a number, a string or a truth value is wanted`,
  );
}

function stringOf(name: string, value: unknown): string {
  wanted(name, value);
  if (typeof value === 'string') return value;
  throw bad(`Input ${name} is BYTES: its elements are strings, not a ${typeof value}`);
}

function truthOf(name: string, value: unknown): number {
  wanted(name, value);
  if (value === true || value === 1) return 1;
  if (value === false || value === 0) return 0;
  throw bad(`Input ${name} is BOOL, but holds ${String(value).slice(0, 40)}`);
}

function notNumber(name: string, value: unknown, type: Numbers): ServingError {
  wanted(name, value);
  return bad(`Input ${name} is ${type}, but holds a ${typeof value}`);
}

function notWhole(name: string, value: number, type: Numbers): ServingError {
  const [least, over] = INTEGERS[type]!;
  return bad(`Input ${name} is ${type}, from ${BigInt(least)} to ${BigInt(over) - 1n}, but holds ${value}`);
}

/** In row-major order; NaN and infinities as JSON has them: null. */
export function elementsOfTensor({ bytes, name, shape, type }: NamedTensor): Element[] {
  const count = elementsOf(name, shape);
  if (type === 'BYTES') return unpackStrings(name, bytes, count).map((one) => one.toString('utf8'));
  if (type === 'BOOL') return Array.from(bytes.subarray(0, count), (one) => one !== 0);
  const size = ELEMENT_BYTES[type] ?? 0;
  const Typed = ARRAYS[type];
  // A part of a batch may begin at any byte.
  const { buffer, byteOffset } = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes);
  const array = new Typed(buffer as ArrayBuffer, byteOffset, (count * size) / Typed.BYTES_PER_ELEMENT);
  const elements = new Array<Element>(count);
  for (let at = 0; at < count; at++) {
    if (type === 'FP32') elements[at] = shortDecimal(array[at]!);
    else if (type === 'FP16') elements[at] = readHalf(array[at]!);
    else if (type === 'UINT64') elements[at] = array[2 * at + 1]! * WORD + array[2 * at]!;
    else if (type === 'INT64') elements[at] = (array[2 * at + 1]! | 0) * WORD + array[2 * at]!;
    else elements[at] = array[at]!;
  }
  return elements;
}

/** 10^-5 … 10^8, each exact enough to compare with, and 10^0 … 10^13, exact. */
const LEAST = -5;
const BOUNDS = Array.from({ length: 14 }, (_, at) => Number(`1e${LEAST + at}`));
const SCALES = Array.from({ length: 14 }, (_, at) => Number(`1e${8 - (LEAST + at)}`));

/** Nine digits, which tell one float32 from the next. By arithmetic for usual sizes: a text of each takes ten times as long. */
export function shortDecimal(value: number): number {
  const magnitude = Math.abs(value);
  if (!(magnitude >= BOUNDS[0]! && magnitude < BOUNDS[13]!))
    return magnitude === 0 || !Number.isFinite(value) ? value : Number(value.toPrecision(9));
  let at = 0;
  while (magnitude >= BOUNDS[at + 1]!) at++;
  const scale = SCALES[at]!;
  return Math.round(value * scale) / scale;
}
