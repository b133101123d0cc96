/**
 * What passes between operators, as JSON and back, and when two are equal.
 *
 * In      null, truth values, numbers, texts, bytes, tensors, lists and objects of these
 * Out     JSON with `$bytes` and `$tensor` where JSON has no word
 * Errors  ServingError BAD_REQUEST: anything else
 * Pure
 */
import { ServingError } from '../proto/errors.js';

export const ARRAYS = {
  bool: Uint8Array,
  uint8: Uint8Array,
  int8: Int8Array,
  int32: Int32Array,
  int64: BigInt64Array,
  float32: Float32Array,
  float64: Float64Array,
} as const;

export type TensorKind = keyof typeof ARRAYS;
export type TensorData = Uint8Array | Int8Array | Int32Array | BigInt64Array | Float32Array | Float64Array;

export class Tensor {
  readonly kind: TensorKind;
  readonly shape: readonly number[];
  readonly data: TensorData;

  constructor(kind: TensorKind, shape: readonly number[], data: TensorData) {
    const count = shape.reduce((product, axis) => product * axis, 1);
    if (data.length !== count) {
      throw new ServingError(
        'BAD_REQUEST',
        `A tensor [${shape.join(',')}] has ${count} elements, not ${data.length}`,
      );
    }
    this.kind = kind;
    this.shape = shape;
    this.data = data;
  }

  /** Nested lists of numbers. */
  toList(): unknown {
    const nest = (axis: number, start: number, count: number): unknown => {
      const length = this.shape[axis];
      if (length === undefined) return Number(this.data[start]);
      const step = length === 0 ? 0 : count / length;
      return Array.from({ length }, (_, index) => nest(axis + 1, start + index * step, step));
    };
    return nest(0, 0, this.data.length);
  }
}

export type Value =
  | null
  | boolean
  | number
  | string
  | Uint8Array
  | Tensor
  | readonly Value[]
  | { readonly [key: string]: Value };

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const base64 = (view: ArrayBufferView): string =>
  Buffer.from(view.buffer, view.byteOffset, view.byteLength).toString('base64');

/** @throws ServingError BAD_REQUEST */
export function valueToJson(value: Value): Json {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value;
  if (typeof value === 'number') return Number.isFinite(value) ? value : { $number: String(value) };
  if (value instanceof Tensor)
    return { $tensor: { kind: value.kind, shape: [...value.shape], data: base64(value.data) } };
  if (value instanceof Uint8Array) return { $bytes: base64(value) };
  if (Array.isArray(value)) return value.map(valueToJson);
  if (typeof value === 'object' && isPlain(value)) {
    const entries = Object.entries(value as Readonly<Record<string, Value>>);
    if (entries.some(([key]) => key.startsWith('$'))) throw bad('a key of an object begins with $');
    return Object.fromEntries(entries.map(([key, one]) => [key, valueToJson(one)]));
  }
  throw bad(
    `a ${typeof value === 'object' ? (value as object).constructor.name : typeof value} cannot pass between operators`,
  );
}

/** @throws ServingError BAD_REQUEST */
export function valueOfJson(json: unknown): Value {
  if (json === null || typeof json !== 'object') return json as Value;
  if (Array.isArray(json)) return json.map(valueOfJson);
  const object = json as Record<string, unknown>;
  if (typeof object.$bytes === 'string') return new Uint8Array(Buffer.from(object.$bytes, 'base64'));
  if (typeof object.$number === 'string') return Number(object.$number);
  if (typeof object.$tensor === 'object' && object.$tensor !== null) {
    const { data, kind, shape } = object.$tensor as { data: string; kind: TensorKind; shape: number[] };
    if (!Object.hasOwn(ARRAYS, kind)) throw bad(`a tensor of ${String(kind)} is not known`);
    // A copy, which begins where any kind of number may.
    const bytes = new Uint8Array(Buffer.from(data, 'base64'));
    const Typed = ARRAYS[kind];
    return new Tensor(kind, shape, new Typed(bytes.buffer, 0, bytes.byteLength / Typed.BYTES_PER_ELEMENT));
  }
  return Object.fromEntries(Object.entries(object).map(([key, one]) => [key, valueOfJson(one)]));
}

/** For people: tensors as lists, bytes as base64. */
export function plainOf(value: Value): unknown {
  if (value instanceof Tensor) return value.toList();
  if (value instanceof Uint8Array) return base64(value);
  if (Array.isArray(value)) return value.map(plainOf);
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plainOf(one as Value)]));
  return value;
}

/** @param tolerance of the largest number of a tensor of floats; 0: to the bit */
export function isEqual(a: Value, b: Value, tolerance: number): boolean {
  if (a instanceof Tensor || b instanceof Tensor) {
    if (!(a instanceof Tensor && b instanceof Tensor)) return false;
    if (a.kind !== b.kind || a.shape.join() !== b.shape.join()) return false;
    const bound = a.kind.startsWith('float') ? tolerance * largest(b) : 0;
    return a.data.every((one, index) => {
      const other = b.data[index]!;
      return Object.is(one, other) || Math.abs(Number(one) - Number(other)) <= bound;
    });
  }
  if (a instanceof Uint8Array || b instanceof Uint8Array)
    return a instanceof Uint8Array && b instanceof Uint8Array && Buffer.compare(a, b) === 0;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return Object.is(a, b);
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const left = Object.entries(a);
  const right = b as Readonly<Record<string, Value>>;
  return (
    left.length === Object.keys(b).length &&
    left.every(([key, one]) => Object.hasOwn(right, key) && isEqual(one as Value, right[key]!, tolerance))
  );
}

const largest = ({ data }: Tensor): number => {
  let most = 0;
  for (const one of data) most = Math.max(most, Math.abs(Number(one)));
  return most;
};

const isPlain = (value: object): boolean =>
  Object.getPrototypeOf(value) === Object.prototype || Object.getPrototypeOf(value) === null;

const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);
