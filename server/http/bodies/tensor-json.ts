/**
 * Tensors as JSON, and back.
 *
 * In      {"inputs": {"x": [[…], …], …}}, nested lists by name; {"inputs": [{"name", "shape", "datatype", "data"}, …]}, the Open
 *         Inference Protocol's; or a nested list alone, for a model of one input
 * Out     NamedTensors, of the types that the model's signature says; the answer in the form that was asked in
 * Limits  lists as deep as MAX_RANK; the body's own limit
 * Errors  ServingError BAD_REQUEST naming the input and what is wrong with it
 * Source  Open Inference Protocol, JSON form; int64 beyond 2^53 comes back as a number that JSON readers round
 */
import { ServingError } from '../../../proto/errors.js';
import { type NamedTensor, TENSOR_TYPES, type TensorType } from '../../requests/predict-request.js';
import type { Signature } from '../../requests/signature.js';
import {
  ELEMENT_BYTES,
  elementsOf,
  MAX_RANK,
  packStrings,
  unpackStrings,
} from '../../requests/tensor-types.js';
import { readHalf, writeHalf } from './half-float.js';

type Element = number | boolean | string;

/** How the client writes tensors; the answer is written alike. */
export type TensorForm = 'named' | 'listed' | 'bare';

const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** @throws ServingError BAD_REQUEST */
export function tensorsOfJson(
  body: unknown,
  { inputs: specs }: Signature,
): { inputs: NamedTensor[]; form: TensorForm } {
  const given = isObject(body) && Object.hasOwn(body, 'inputs') ? body.inputs : body;
  if (
    Array.isArray(given) &&
    given.length > 0 &&
    given.every((entry) => isObject(entry) && 'datatype' in entry)
  ) {
    return { inputs: given.map((entry) => listedTensor(entry)), form: 'listed' };
  }
  if (isObject(given)) {
    const inputs = Object.entries(given).map(([name, value]) => {
      const spec = specs.find((one) => one.name === name);
      if (!spec)
        throw bad(`The model has no input ${name}; it has ${specs.map((one) => one.name).join(', ')}`);
      return nestedTensor(name, value, spec.type);
    });
    return { inputs, form: 'named' };
  }
  const [only, another] = specs;
  if (only === undefined || another !== undefined) {
    throw bad(
      `The model has ${specs.length} inputs: give them by name, {"inputs": {"${only?.name ?? ''}": …}}`,
    );
  }
  return { inputs: [nestedTensor(only.name, given, only.type)], form: 'bare' };
}

function nestedTensor(name: string, value: unknown, type: TensorType): NamedTensor {
  const shape: number[] = [];
  for (let at = value; Array.isArray(at); at = (at as unknown[])[0]) {
    shape.push(at.length);
    if (shape.length > MAX_RANK) throw bad(`Input ${name} is nested deeper than ${MAX_RANK} lists`);
  }
  const elements: Element[] = [];
  const flatten = (at: unknown, axis: number): void => {
    if (axis === shape.length) {
      elements.push(elementOf(name, at));
      return;
    }
    if (!Array.isArray(at) || at.length !== shape[axis]) {
      throw bad(`Input ${name} is ragged: its lists on level ${axis + 1} are not all ${shape[axis]} long`);
    }
    for (const one of at) flatten(one, axis + 1);
  };
  flatten(value, 0);
  return { name, type, shape, bytes: packed(name, elements, type) };
}

/** The Open Inference Protocol's form of one tensor. @throws ServingError BAD_REQUEST */
export function listedTensor(entry: Record<string, unknown>): NamedTensor {
  const { data, datatype, name, shape } = entry;
  if (typeof name !== 'string') throw bad('An input has no name');
  if (!TENSOR_TYPES.includes(datatype as TensorType)) {
    throw bad(
      `datatype of ${name} is ${String(datatype).slice(0, 40)}; it must be one of ${TENSOR_TYPES.join(', ')}`,
    );
  }
  if (!Array.isArray(shape)) throw bad(`Input ${name} has no shape`);
  if (!Array.isArray(data)) throw bad(`Input ${name} has no data`);
  const count = elementsOf(name, shape as number[]);
  const elements = (data as unknown[]).flat(MAX_RANK).map((one) => elementOf(name, one));
  if (elements.length !== count) {
    throw bad(
      `data of ${name} has ${elements.length} elements, but its shape [${shape.join(',')}] has ${count}`,
    );
  }
  const type = datatype as TensorType;
  return { name, type, shape: shape as number[], bytes: packed(name, elements, type) };
}

function elementOf(name: string, value: unknown): Element {
  if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'string') return value;
  throw bad(
    `Input ${name} holds ${value === null ? 'null' : `a ${typeof value}`}, where a number, a string or a truth value is wanted`,
  );
}

const INTEGERS: Readonly<Partial<Record<TensorType, readonly [bigint, bigint]>>> = {
  UINT8: [0n, 2n ** 8n - 1n],
  UINT16: [0n, 2n ** 16n - 1n],
  UINT32: [0n, 2n ** 32n - 1n],
  UINT64: [0n, 2n ** 64n - 1n],
  INT8: [-(2n ** 7n), 2n ** 7n - 1n],
  INT16: [-(2n ** 15n), 2n ** 15n - 1n],
  INT32: [-(2n ** 31n), 2n ** 31n - 1n],
  INT64: [-(2n ** 63n), 2n ** 63n - 1n],
};

function packed(name: string, elements: readonly Element[], type: TensorType): Uint8Array {
  if (type === 'BYTES') {
    return packStrings(
      elements.map((one) => {
        if (typeof one === 'string') return one;
        throw bad(`Input ${name} is BYTES: its elements are strings, not a ${typeof one}`);
      }),
    );
  }
  const size = ELEMENT_BYTES[type] ?? 0;
  const bytes = Buffer.alloc(elements.length * size);
  elements.forEach((element, index) => {
    write(bytes, index * size, type, numberOf(name, element, type));
  });
  return bytes;
}

function numberOf(name: string, element: Element, type: TensorType): number {
  if (type === 'BOOL') {
    if (element === true || element === 1) return 1;
    if (element === false || element === 0) return 0;
    throw bad(`Input ${name} is BOOL, but holds ${String(element).slice(0, 40)}`);
  }
  if (typeof element !== 'number') throw bad(`Input ${name} is ${type}, but holds a ${typeof element}`);
  const range = INTEGERS[type];
  if (range && !(Number.isInteger(element) && BigInt(element) >= range[0] && BigInt(element) <= range[1])) {
    throw bad(`Input ${name} is ${type}, from ${range[0]} to ${range[1]}, but holds ${element}`);
  }
  return element;
}

function write(bytes: Buffer, at: number, type: TensorType, value: number): void {
  switch (type) {
    case 'BOOL':
    case 'UINT8':
      bytes.writeUInt8(value, at);
      return;
    case 'UINT16':
      bytes.writeUInt16LE(value, at);
      return;
    case 'UINT32':
      bytes.writeUInt32LE(value, at);
      return;
    case 'UINT64':
      bytes.writeBigUInt64LE(BigInt(value), at);
      return;
    case 'INT8':
      bytes.writeInt8(value, at);
      return;
    case 'INT16':
      bytes.writeInt16LE(value, at);
      return;
    case 'INT32':
      bytes.writeInt32LE(value, at);
      return;
    case 'INT64':
      bytes.writeBigInt64LE(BigInt(value), at);
      return;
    case 'FP16':
      bytes.writeUInt16LE(writeHalf(value), at);
      return;
    case 'FP32':
      bytes.writeFloatLE(value, at);
      return;
    case 'FP64':
      bytes.writeDoubleLE(value, at);
  }
}

/** The elements of a tensor, in row-major order; NaN and infinities as JSON has them: null. */
export function elementsOfTensor({ bytes, name, shape, type }: NamedTensor): (Element | null)[] {
  const count = elementsOf(name, shape);
  if (type === 'BYTES') return unpackStrings(name, bytes, count).map((one) => one.toString('utf8'));
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = ELEMENT_BYTES[type] ?? 0;
  return Array.from({ length: count }, (_, index) => read(buffer, index * size, type));
}

/** As few digits as tell one float32 from the next. */
const short = (value: number): number => Number(value.toPrecision(9));

function read(bytes: Buffer, at: number, type: TensorType): Element {
  switch (type) {
    case 'BOOL':
      return bytes.readUInt8(at) !== 0;
    case 'UINT8':
      return bytes.readUInt8(at);
    case 'UINT16':
      return bytes.readUInt16LE(at);
    case 'UINT32':
      return bytes.readUInt32LE(at);
    case 'UINT64':
      return Number(bytes.readBigUInt64LE(at));
    case 'INT8':
      return bytes.readInt8(at);
    case 'INT16':
      return bytes.readInt16LE(at);
    case 'INT32':
      return bytes.readInt32LE(at);
    case 'INT64':
      return Number(bytes.readBigInt64LE(at));
    case 'FP16':
      return readHalf(bytes.readUInt16LE(at));
    case 'FP32':
      return short(bytes.readFloatLE(at));
    default:
      return bytes.readDoubleLE(at);
  }
}

/** Nested lists of a tensor. */
export function nestedOf(tensor: NamedTensor): unknown {
  const elements = elementsOfTensor(tensor);
  const nest = (axis: number, start: number, count: number): unknown => {
    const length = tensor.shape[axis];
    if (length === undefined) return elements[start];
    const step = length === 0 ? 0 : count / length;
    return Array.from({ length }, (_, index) => nest(axis + 1, start + index * step, step));
  };
  return nest(0, 0, elements.length);
}

/** The answer, in the form of the question. */
export function tensorsAsJson(outputs: readonly NamedTensor[], form: TensorForm): unknown {
  if (form === 'listed') {
    const listed = outputs.map((output) => {
      const { name, shape, type } = output;
      return { name, datatype: type, shape, data: elementsOfTensor(output) };
    });
    return { outputs: listed };
  }
  if (form === 'bare' && outputs.length === 1) return nestedOf(outputs[0]!);
  return Object.fromEntries(outputs.map((output) => [output.name, nestedOf(output)]));
}
