/**
 * Tensors of random elements for a model that takes tensors.
 *
 * In      of each input its name, datatype, shape (-1: the first axis is rows) and the range of its elements
 * Out     TensorPayloads, the same for a seed
 * Limits  the datatypes below; MAX_ELEMENTS a tensor
 * Errors  Error naming the input and what is wrong
 */
import type { TensorPayload, TensorValue } from '../dialects/dialect.js';
import { Random } from './random.js';

export interface TensorInput {
  name: string;
  datatype: string;
  shape: readonly number[];
  /** Whole numbers: below; others: 0 … 1 times this. */
  below: number;
}

const MAX_ELEMENTS = 2 ** 26;

interface Kind {
  bytes: number;
  isWhole: boolean;
  write(view: DataView, offset: number, value: number): void;
}

const KINDS: Readonly<Record<string, Kind>> = {
  BOOL: { bytes: 1, isWhole: true, write: (view, at, value) => view.setUint8(at, value) },
  UINT8: { bytes: 1, isWhole: true, write: (view, at, value) => view.setUint8(at, value) },
  INT8: { bytes: 1, isWhole: true, write: (view, at, value) => view.setInt8(at, value) },
  INT32: { bytes: 4, isWhole: true, write: (view, at, value) => view.setInt32(at, value, true) },
  INT64: { bytes: 8, isWhole: true, write: (view, at, value) => view.setBigInt64(at, BigInt(value), true) },
  FP32: { bytes: 4, isWhole: false, write: (view, at, value) => view.setFloat32(at, value, true) },
  FP64: { bytes: 8, isWhole: false, write: (view, at, value) => view.setFloat64(at, value, true) },
};

export class RandomTensors {
  readonly #inputs: readonly TensorInput[];
  readonly #seed: number;

  constructor(inputs: readonly TensorInput[], seed: number) {
    for (const { datatype, name, shape } of inputs) {
      if (!Object.hasOwn(KINDS, datatype)) {
        throw new Error(`input ${name} is ${datatype}; made up are ${Object.keys(KINDS).join(', ')}`);
      }
      const elements = elementsOf(shape);
      if (!(elements >= 1 && elements <= MAX_ELEMENTS)) {
        throw new Error(
          `input ${name} has ${elements} elements (shape ${shape.join('×')}), 1 … ${MAX_ELEMENTS} may be`,
        );
      }
    }
    this.#inputs = inputs;
    this.#seed = seed;
  }

  payload(index: number): TensorPayload {
    const random = new Random(this.#seed, 'tensors', index);
    return { kind: 'tensors', tensors: this.#inputs.map((input) => made(input, random)) };
  }
}

const elementsOf = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);

function made({ below, datatype, name, shape }: TensorInput, random: Random): TensorValue {
  const kind = KINDS[datatype]!;
  const data = Array.from({ length: elementsOf(shape) }, () => {
    if (kind.isWhole) return random.whole(datatype === 'BOOL' ? 2 : below);
    return Math.fround(random.uniform() * below);
  });
  const bytes = new Uint8Array(data.length * kind.bytes);
  const view = new DataView(bytes.buffer);
  for (const [index, value] of data.entries()) kind.write(view, index * kind.bytes, value);
  return {
    name,
    datatype,
    shape,
    bytes,
    data: datatype === 'BOOL' ? data.map((value) => value === 1) : data,
  };
}
