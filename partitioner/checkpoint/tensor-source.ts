/**
 * Where weights come from: the one interface between a checkpoint (or random weights) and the rest of the partitioner.
 *
 * In      a tensor's name and a range of its rows
 * Out     float32 values, or the bytes as stored
 * Limits  a caller reads ranges of rows, so memory is bounded by the range it asks for, never by the model
 * Errors  ServingError CHECKPOINT_INVALID: no such tensor, a type that cannot be read, a file that fails or has changed;
 *         a range outside the tensor is a bug (assert)
 * Note    synchronous on purpose: the partitioner is a process of its own and has nothing else to do while a disk reads
 */
import assert from 'node:assert/strict';
import { ServingError } from '../../proto/errors.js';
import { printableName } from './json-file.js';

/** Types of stored weights that can be read. */
export type StoredType = 'float32' | 'float16' | 'bfloat16';

export interface TensorInfo {
  name: string;
  type: StoredType;
  /** Outermost axis first; [] is a scalar: one row of one element. */
  shape: readonly number[];
}

export interface IntegerInfo {
  /** As the file writes it: U8, I32, … */
  type: string;
  shape: readonly number[];
}

export interface CodedInfo {
  /** Columns that share a scale and a zero point. */
  groupSize: number;
  /** The columns of a group lie side by side. Otherwise the weights can be read as floats only. */
  isContiguous: boolean;
  /** Absent: 4. With 8 there is no zero point but 128. */
  bits?: 4 | 8;
  /** Zero points are any number, which only panels hold. */
  anyZero?: boolean;
}

/** weight = (code − zero point) · scale */
export interface CodedRows {
  /** [rows, ceil(columns / 2)]: the even column in the low half of a byte; with 8 bits [rows, columns], unsigned. */
  packed: Uint8Array;
  /** [rows, groups] */
  scales: Float32Array;
  /** [rows, groups]; any numbers, where the tensor has such. */
  zeroPoints: Uint8Array | Float32Array;
}

/** One file of a checkpoint, as the manifest's `sources` keep it. */
export interface SourceFile {
  /** Relative to the checkpoint's folder. */
  path: string;
  bytes: number;
  modifiedMs: number;
}

/** Numbers of 16 bits as they stand in a file. */
export interface Halves {
  type: 'float16' | 'bfloat16';
  values: Uint16Array;
}

export interface TensorSource {
  /** By tensor name. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** Tensors that are there but of a type that cannot be read: name → type as the file writes it (I64, BOOL, F8_E4M3, …). */
  readonly unsupported?: ReadonlyMap<string, string>;
  /** Those of them that hold whole numbers, or floats of 8 bits: readers of packed and quantised weights look into them. */
  readonly integers?: ReadonlyMap<string, IntegerInfo>;
  /** Rows of one of these, raw little-endian bytes. */
  readIntegerBytes?(name: string, rowStart: number, rowEnd: number): Uint8Array;
  /** Weights that are stored as codes of 4 or 8 bits: name → what is known of them. */
  readonly coded?: ReadonlyMap<string, CodedInfo>;
  /** Tensors that a model without them is the same as. */
  readonly needless?: ReadonlySet<string>;
  /** Rows of one that is in `coded`. */
  readCodes?(name: string, rowStart: number, rowEnd: number): CodedRows;
  /**
   * Rows [rowStart, rowEnd) of axis 0 as float32, row-major [(rowEnd - rowStart) · elements per row]. A 1-D tensor has rows of
   * 1 element.
   *
   * @param into at least as many elements as asked for; filled from its start, and the filled part of it is returned
   */
  readFloat32(name: string, rowStart: number, rowEnd: number, into?: Float32Array): Float32Array;
  /**
   * The same rows where they are stored in 16 bits, and mean what is stored. Absent or null: readFloat32 tells what they mean.
   *
   * @param into at least as many elements as asked for
   */
  readHalves?(name: string, rowStart: number, rowEnd: number, into: Uint16Array): Halves | null;
  /** The same rows in their stored type, raw little-endian bytes. */
  readBytes(name: string, rowStart: number, rowEnd: number): Uint8Array;
  /** Files it was made of, for the manifest's `sources`; empty for random weights. */
  readonly files: readonly SourceFile[];
  close(): void;
}

/** Bytes of one element. */
export const STORED_TYPE_BYTES: Readonly<Record<StoredType, number>> = {
  float32: 4,
  float16: 2,
  bfloat16: 2,
};

/** Rows of axis 0, and elements of one of them. */
export interface RowShape {
  rows: number;
  rowElements: number;
}

/** How a tensor is cut into rows: by axis 0; a vector has rows of one element, a scalar is one row of one. */
export function rowShape(shape: readonly number[]): RowShape {
  const [rows = 1, ...rest] = shape;
  return { rows, rowElements: rest.reduce((product, size) => product * size, 1) };
}

/**
 * The tensor of that name, or a sentence that says why there is none.
 *
 * @throws ServingError CHECKPOINT_INVALID
 */
export function requireTensor(source: TensorSource, name: string): TensorInfo {
  const found = source.tensors.get(name);
  if (found) return found;
  const type = source.unsupported?.get(name);
  throw new ServingError(
    'CHECKPOINT_INVALID',
    type === undefined
      ? `Tensor ${printableName(name)} is missing from the checkpoint`
      : `Tensor ${printableName(name)} is of type ${printableName(type)}, which cannot be read; supported are F32, F16 and BF16`,
  );
}

/** Rows of a tensor of whole numbers, raw. The name is one of the source's `integers`. */
export function readIntegers(
  source: TensorSource,
  name: string,
  rowStart: number,
  rowEnd: number,
): Uint8Array {
  assert(source.integers?.has(name) && source.readIntegerBytes, `${name} holds no whole numbers`);
  return source.readIntegerBytes(name, rowStart, rowEnd);
}

/** Rows of a weight that is one of the source's `coded`. */
export function readCodes(source: TensorSource, name: string, rowStart: number, rowEnd: number): CodedRows {
  assert(source.coded?.has(name) && source.readCodes, `${name} is not in codes`);
  return source.readCodes(name, rowStart, rowEnd);
}

/** Checks a range of rows and its destination. @returns elements in the range */
export function checkRowRange(
  info: TensorInfo,
  rowStart: number,
  rowEnd: number,
  into: { length: number } | undefined,
): number {
  const { rows, rowElements } = rowShape(info.shape);
  assert(
    Number.isInteger(rowStart) &&
      Number.isInteger(rowEnd) &&
      0 <= rowStart &&
      rowStart <= rowEnd &&
      rowEnd <= rows,
    `rows ${rowStart} to ${rowEnd} of ${info.name}, which has ${rows}`,
  );
  const elements = (rowEnd - rowStart) * rowElements;
  assert(
    into === undefined || into.length >= elements,
    `${elements} elements of ${info.name} into ${into?.length}`,
  );
  return elements;
}
