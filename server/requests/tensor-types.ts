/**
 * Sizes of named tensors: bytes of an element, elements of a shape, strings in bytes.
 *
 * Limits  MAX_RANK axes, MAX_ELEMENTS elements; of a tensor without elements MAX_EMPTY along its other axes
 * Errors  ServingError BAD_REQUEST naming tensor, limit and value
 * Source  Open Inference Protocol, tensor data types and the binary extension
 */
import { ServingError } from '../../proto/errors.js';
import type { NamedTensor, TensorType } from './predict-request.js';

export const MAX_RANK = 16;
/** More would not fit a body, whatever its limit. */
export const MAX_ELEMENTS = 2 ** 31 - 1;
/** A tensor without elements costs its sender nothing, but a model may make something of each of its rows. */
export const MAX_EMPTY = 65_536;

/** null: each element says its own length. */
export const ELEMENT_BYTES: Readonly<Record<TensorType, number | null>> = {
  ...{ BOOL: 1, UINT8: 1, UINT16: 2, UINT32: 4, UINT64: 8, INT8: 1, INT16: 2, INT32: 4, INT64: 8 },
  ...{ FP16: 2, FP32: 4, FP64: 8, BYTES: null },
};

/** @throws ServingError BAD_REQUEST */
export function elementsOf(name: string, shape: readonly number[]): number {
  const fail = (what: string): never => {
    // An axis may be anything that JSON has, also what has no text.
    const axes = shape.slice(0, MAX_RANK).map((axis) => (typeof axis === 'number' ? axis : typeof axis));
    throw new ServingError('BAD_REQUEST', `shape [${axes.join(',')}] of ${name} ${what}`);
  };
  if (shape.length > MAX_RANK) fail(`has ${shape.length} axes, of at most ${MAX_RANK}`);
  if (!shape.every((axis) => Number.isSafeInteger(axis) && axis >= 0))
    fail('is not made of whole numbers from 0 on');
  const count = shape.reduce((product, axis) => product * axis, 1);
  if (count > MAX_ELEMENTS) fail(`has ${count} elements, of at most ${MAX_ELEMENTS}`);
  if (count === 0) {
    const others = shape.reduce((product, axis) => product * (axis || 1), 1);
    if (others > MAX_EMPTY)
      fail(`has no elements, but ${others} along its other axes, of at most ${MAX_EMPTY}`);
  }
  return count;
}

/** Strings as BYTES holds them: each behind its length in 4 bytes. */
export function packStrings(strings: readonly (string | Uint8Array)[]): Uint8Array {
  const parts = strings.map((one) => (typeof one === 'string' ? Buffer.from(one, 'utf8') : Buffer.from(one)));
  const packed = Buffer.alloc(parts.reduce((sum, part) => sum + 4 + part.length, 0));
  let at = 0;
  for (const part of parts) {
    at = packed.writeUInt32LE(part.length, at);
    at += part.copy(packed, at);
  }
  return packed;
}

/** @throws ServingError BAD_REQUEST: the lengths do not lead to the end */
export function unpackStrings(name: string, packed: Uint8Array, count: number): Buffer[] {
  const bytes = Buffer.from(packed.buffer, packed.byteOffset, packed.byteLength);
  const strings: Buffer[] = [];
  let at = 0;
  while (strings.length < count && at + 4 <= bytes.length) {
    const end = at + 4 + bytes.readUInt32LE(at);
    if (end > bytes.length) break;
    strings.push(bytes.subarray(at + 4, end));
    at = end;
  }
  if (strings.length === count && at === bytes.length) return strings;
  throw new ServingError(
    'BAD_REQUEST',
    `${name} has ${bytes.length} bytes, which are not ${count} strings, each behind its length in 4 bytes`,
  );
}

/** Shape and bytes agree. @throws ServingError BAD_REQUEST */
export function checkTensor({ bytes, name, shape, type }: NamedTensor): void {
  const count = elementsOf(name, shape);
  const size = ELEMENT_BYTES[type];
  if (size === null) {
    unpackStrings(name, bytes, count);
    return;
  }
  if (bytes.byteLength === count * size) return;
  throw new ServingError(
    'BAD_REQUEST',
    `${name} is ${type} [${shape.join(',')}], which are ${count * size} bytes, but it has ${bytes.byteLength}`,
  );
}
