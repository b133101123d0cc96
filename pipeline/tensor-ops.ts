/**
 * Operators that make tensors of lists, and answers of tensors.
 *
 * In      lists of ids, nested lists of numbers, tensors of floats
 * Out     tensors; indices and chances
 * Errors  ServingError BAD_REQUEST: lists that are no tensor, or longer than they may be
 */
import { ServingError } from '../proto/errors.js';
import { makeOp, type OpKind } from './op.js';
import { Tensor, type TensorKind, type Value } from './pipeline-value.js';
import type { Op } from './tracing.js';

const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);

function idLists(name: string, value: Value | undefined): readonly (readonly number[])[] {
  const isList = (one: unknown): one is number[] =>
    Array.isArray(one) && one.every((id) => Number.isSafeInteger(id));
  if (!Array.isArray(value) || !value.every(isList)) throw bad(`${name} takes lists of ids`);
  return value as readonly (readonly number[])[];
}

/** As long as the longest, or as they are to be. */
function widthOf(name: string, lists: readonly (readonly number[])[], length: Value | undefined): number {
  const longest = lists.reduce((most, list) => Math.max(most, list.length), 0);
  if (typeof length !== 'number') return longest;
  if (longest > length) throw bad(`${name}: a list has ${longest} ids, of at most ${length}`);
  return length;
}

function filled(
  name: string,
  value: Value | undefined,
  length: Value | undefined,
  at: (id: number | undefined) => bigint,
): Tensor {
  const lists = idLists(name, value);
  const width = widthOf(name, lists, length);
  const data = new BigInt64Array(lists.length * width).fill(at(undefined));
  lists.forEach((list, row) => {
    for (const [column, id] of list.entries()) data[row * width + column] = at(id);
  });
  return new Tensor('int64', [lists.length, width], data);
}

const PAD: OpKind = {
  name: 'tensor.pad@1',
  isExact: true,
  make:
    ({ length, value }) =>
    (lists) =>
      filled('tensor.pad', lists, length, (id) => BigInt(id ?? (value as number))),
};
const MASK: OpKind = {
  name: 'tensor.mask@1',
  isExact: true,
  make:
    ({ length }) =>
    (lists) =>
      filled('tensor.mask', lists, length, (id) => (id === undefined ? 0n : 1n)),
};
const ZEROS: OpKind = {
  name: 'tensor.zeros-like@1',
  isExact: true,
  make: () => (given) => {
    if (!(given instanceof Tensor)) throw bad('tensor.zerosLike takes a tensor');
    const Typed = given.data.constructor as new (length: number) => Tensor['data'];
    return new Tensor(given.kind, given.shape, new Typed(given.data.length));
  },
};
const FLOATS: OpKind = {
  name: 'tensor.floats@1',
  isExact: true,
  make:
    ({ kind }) =>
    (value = null) => {
      const shape: number[] = [];
      for (let at: unknown = value; Array.isArray(at); at = at[0]) shape.push(at.length);
      const flat: number[] = [];
      const walk = (at: Value, axis: number): void => {
        if (axis === shape.length) {
          if (typeof at !== 'number') throw bad(`tensor.floats takes numbers, not ${typeof at}`);
          flat.push(at);
          return;
        }
        if (!Array.isArray(at) || at.length !== shape[axis])
          throw bad('tensor.floats takes lists of the same length');
        for (const one of at) walk(one as Value, axis + 1);
      };
      walk(value, 0);
      return new Tensor(
        kind as TensorKind,
        shape,
        kind === 'float64' ? Float64Array.from(flat) : Float32Array.from(flat),
      );
    },
};

/** Rows of the last axis. */
function rowsOf(name: string, given: Value | undefined): number[][] {
  if (!(given instanceof Tensor) || !given.kind.startsWith('float') || given.shape.length === 0)
    throw bad(`${name} takes a tensor of floats`);
  const width = given.shape.at(-1)!;
  const count = width === 0 ? 0 : given.data.length / width;
  return Array.from({ length: count }, (_, row) =>
    Array.from({ length: width }, (_one, column) => Number(given.data[row * width + column])),
  );
}

const ARGMAX: OpKind = {
  name: 'tensor.argmax@1',
  isExact: true,
  make: () => (given) =>
    rowsOf('tensor.argmax', given).map((row) =>
      row.reduce((best, one, index) => (one > row[best]! ? index : best), 0),
    ),
};
const SOFTMAX: OpKind = {
  name: 'tensor.softmax@1',
  isExact: false,
  make: () => (given) => {
    const rows = rowsOf('tensor.softmax', given).map((row) => {
      const most = Math.max(...row);
      const powers = row.map((one) => Math.exp(one - most));
      const sum = powers.reduce((total, one) => total + one, 0);
      return powers.map((one) => one / sum);
    });
    return new Tensor('float32', (given as Tensor).shape, Float32Array.from(rows.flat()));
  },
};

export const TENSOR_KINDS = [PAD, MASK, ZEROS, FLOATS, ARGMAX, SOFTMAX];

export const tensor = {
  /** Lists of ids as one tensor. @param length absent: of the longest */
  pad: (length: number | null = null, value = 0): Op => makeOp(PAD, { length, value }),
  /** 1 where pad has an id of the list, 0 where it fills up. */
  mask: (length: number | null = null): Op => makeOp(MASK, { length }),
  zerosLike: (): Op => makeOp(ZEROS),
  floats: (kind: 'float32' | 'float64' = 'float32'): Op => makeOp(FLOATS, { kind }),
  /** The place of the largest of each row. */
  argmax: (): Op => makeOp(ARGMAX),
  softmax: (): Op => makeOp(SOFTMAX),
};
