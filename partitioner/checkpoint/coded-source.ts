/**
 * GPTQ's and AWQ's linears as tensors of their own: `X.weight` [out, in], as the floats that they are, or as their 4-bit codes.
 *
 * Layout  eight codes an int32 word, the lowest bits first.
 *         GPTQ: `X.qweight` [in / 8, out], `X.qzeros` [groups, out / 8] (the first format stores zero points less one),
 *         `X.scales` [groups, out], and perhaps `X.g_idx` [in]: each column's group.
 *         AWQ: `X.qweight` [in, out / 8], `X.qzeros` [groups, out / 8], `X.scales` [groups, out]; a word's places hold the
 *         outputs 0, 2, 4, 6, 1, 3, 5, 7.
 * In      TensorSource of the checkpoint, Quantisation
 * Out     TensorSource with X.weight instead of these; weight = (code − zero point) · scale, exact in float32
 * Limits  memory: one linear's words
 * Errors  ServingError CHECKPOINT_INVALID: parts that are missing or do not fit each other, a group that is none; a stored zero
 *         point of 15 in GPTQ's first format, which its readers take for 0 or for 16
 * Source  AutoGPTQ and GPTQModel QuantLinear; AutoAWQ WQLinear_GEMM, packing_utils.py
 */
import assert from 'node:assert/strict';
import { readGroupIndex, wrongTensor } from './group-index.js';
import type { Quantisation } from './quantisation.js';
import {
  type CodedInfo,
  type CodedRows,
  checkRowRange,
  readIntegers,
  requireTensor,
  type SourceFile,
  type TensorInfo,
  type TensorSource,
} from './tensor-source.js';

type CodedQuantisation = Extract<Quantisation, { method: 'gptq' | 'awq' }>;

/** Codes of a word. */
const PER_WORD = 8;
/** A word's place that holds output 0, 1, … 7. */
const PLACES = { gptq: [0, 1, 2, 3, 4, 5, 6, 7], awq: [0, 4, 1, 5, 2, 6, 3, 7] };

/** One linear. */
interface Linear {
  stem: string;
  rows: number;
  columns: number;
  groups: number;
  groupSize: number;
  /** Each column's group; null: side by side. */
  groupOf: Int32Array | null;
}

/** What is kept of the linear that was read last. */
interface Kept {
  name: string;
  words: Uint32Array;
  /** [rows, groups] */
  scales: Float32Array;
  zeroPoints: Uint8Array;
}

/** @throws ServingError CHECKPOINT_INVALID */
export function codedSource(source: TensorSource, quantisation: CodedQuantisation): TensorSource {
  return new CodedSource(source, quantisation);
}

class CodedSource implements TensorSource {
  readonly tensors: Map<string, TensorInfo>;
  readonly unsupported: Map<string, string>;
  readonly files: readonly SourceFile[];
  readonly coded = new Map<string, CodedInfo>();
  readonly needless = new Set<string>();
  readonly #source: TensorSource;
  readonly #quantisation: CodedQuantisation;
  readonly #linears = new Map<string, Linear>();
  #kept: Kept | null = null;

  constructor(source: TensorSource, quantisation: CodedQuantisation) {
    this.#source = source;
    this.#quantisation = quantisation;
    this.tensors = new Map(source.tensors);
    this.unsupported = new Map(source.unsupported);
    this.files = source.files;
    for (const name of source.integers?.keys() ?? []) {
      if (name.endsWith('.qweight')) this.#add(name.slice(0, -'.qweight'.length));
    }
  }

  readFloat32(name: string, rowStart: number, rowEnd: number, into?: Float32Array): Float32Array {
    const linear = this.#linears.get(name);
    if (!linear) return this.#source.readFloat32(name, rowStart, rowEnd, into);
    const elements = checkRowRange(requireTensor(this, name), rowStart, rowEnd, into);
    const values = into === undefined ? new Float32Array(elements) : into.subarray(0, elements);
    const { columns, groupOf, groups, groupSize } = linear;
    const { packed, scales, zeroPoints } = this.readCodes(name, rowStart, rowEnd);
    const rowBytes = Math.ceil(columns / 2);
    for (let row = 0, out = 0; row < rowEnd - rowStart; row++) {
      for (let column = 0; column < columns; column++) {
        const code = (packed[row * rowBytes + (column >> 1)]! >> (4 * (column & 1))) & 15;
        const group = row * groups + (groupOf ? groupOf[column]! : Math.floor(column / groupSize));
        values[out++] = (code - zeroPoints[group]!) * scales[group]!;
      }
    }
    return values;
  }

  readCodes(name: string, rowStart: number, rowEnd: number): CodedRows {
    const linear = this.#linears.get(name);
    assert(linear, `${name} is not in codes`);
    checkRowRange(requireTensor(this, name), rowStart, rowEnd, undefined);
    const { columns, groups, rows } = linear;
    const { words, scales, zeroPoints } = this.#keep(name, linear);
    const count = rowEnd - rowStart;
    const rowBytes = Math.ceil(columns / 2);
    const packed = new Uint8Array(count * rowBytes);
    if (this.#quantisation.method === 'gptq') {
      // A word's eight codes are four bytes of a row as they stand.
      const bytes = new Uint8Array(words.buffer);
      for (let word = 0; word < columns / PER_WORD; word++) {
        for (let row = 0; row < count; row++) {
          const from = 4 * (word * rows + rowStart + row);
          const to = row * rowBytes + 4 * word;
          for (let byte = 0; byte < 4; byte++) packed[to + byte] = bytes[from + byte]!;
        }
      }
    } else {
      const rowWords = rows / PER_WORD;
      for (let row = 0; row < count; row++) {
        const output = rowStart + row;
        const shift = 4 * (PLACES.awq[output % PER_WORD] ?? 0);
        const first = Math.floor(output / PER_WORD);
        for (let column = 0; column < columns; column++) {
          const code = (words[column * rowWords + first]! >>> shift) & 15;
          packed[row * rowBytes + (column >> 1)]! |= code << (4 * (column & 1));
        }
      }
    }
    const range = [rowStart * groups, rowEnd * groups] as const;
    return { packed, scales: scales.slice(...range), zeroPoints: zeroPoints.slice(...range) };
  }

  readBytes(name: string, rowStart: number, rowEnd: number): Uint8Array {
    assert(!this.#linears.has(name), `${name} has no bytes of its own`);
    return this.#source.readBytes(name, rowStart, rowEnd);
  }

  close(): void {
    this.#kept = null;
    this.#source.close();
  }

  #add(stem: string): void {
    const integers = this.#source.integers ?? new Map();
    const shapeOf = (part: string): readonly number[] => {
      const info = integers.get(`${stem}.${part}`);
      if (info?.type !== 'I32' || info.shape.length !== 2)
        throw wrongTensor(`${stem}.${part}`, 'no I32 [n, m]');
      return info.shape;
    };
    const [high = 0, wide = 0] = shapeOf('qweight');
    const isGptq = this.#quantisation.method === 'gptq';
    const [rows, columns] = isGptq ? [wide, high * PER_WORD] : [wide * PER_WORD, high];
    if (columns % 2 !== 0)
      throw wrongTensor(`${stem}.qweight`, `of ${columns} inputs, expected an even number`);
    const groupSize = this.#quantisation.groupSize ?? columns;
    const groups = Math.ceil(columns / groupSize);
    const zeros = shapeOf('qzeros');
    if (rows % PER_WORD !== 0 || zeros.join() !== [groups, rows / PER_WORD].join()) {
      const expected = [groups, rows / PER_WORD].join(', ');
      throw wrongTensor(
        `${stem}.qzeros`,
        `[${zeros.join(', ')}], expected [${expected}] in groups of ${groupSize}`,
      );
    }
    const scales = requireTensor(this.#source, `${stem}.scales`);
    if (scales.shape.join() !== [groups, rows].join()) {
      throw wrongTensor(`${stem}.scales`, `[${scales.shape.join(', ')}], expected [${groups}, ${rows}]`);
    }
    const groupOf = readGroupIndex(this.#source, `${stem}.g_idx`, { columns, groups, groupSize });
    const name = `${stem}.weight`;
    if (this.tensors.has(name)) throw wrongTensor(name, 'there beside its codes');
    this.#linears.set(name, { stem, rows, columns, groups, groupSize, groupOf });
    this.coded.set(name, { groupSize, isContiguous: groupOf === null });
    this.tensors.set(name, { name, type: scales.type, shape: [rows, columns] });
    this.tensors.delete(`${stem}.scales`);
    for (const part of ['qweight', 'qzeros', 'g_idx']) this.unsupported.delete(`${stem}.${part}`);
    // AutoGPTQ writes one for every linear, also where the model has none.
    const bias = this.#source.tensors.get(`${stem}.bias`);
    if (bias?.shape.join() === String(rows) && isZero(this.#source.readFloat32(bias.name, 0, rows))) {
      this.needless.add(bias.name);
    }
  }

  #keep(name: string, { stem, rows, groups }: Linear): Kept {
    if (this.#kept?.name === name) return this.#kept;
    this.#kept = null; // its memory is free before the next one's is taken
    const wordsOf = (part: string): Uint32Array => {
      const height = this.#source.integers?.get(`${stem}.${part}`)?.shape[0] ?? 0;
      return new Uint32Array(readIntegers(this.#source, `${stem}.${part}`, 0, height).buffer);
    };
    const zeros = wordsOf('qzeros');
    const stored = this.#source.readFloat32(`${stem}.scales`, 0, groups);
    const scales = new Float32Array(rows * groups);
    const zeroPoints = new Uint8Array(rows * groups);
    const { lessOne, method } = this.#quantisation;
    const places = PLACES[method];
    for (let group = 0; group < groups; group++) {
      for (let row = 0; row < rows; row++) {
        const word = zeros[group * (rows / PER_WORD) + Math.floor(row / PER_WORD)]!;
        const zero = (word >>> (4 * (places[row % PER_WORD] ?? 0))) & 15;
        if (lessOne && zero === 15) {
          throw wrongTensor(
            `${stem}.qzeros`,
            'less one and has 15: 0 or 16? Save it as checkpoint_format gptq_v2',
          );
        }
        zeroPoints[row * groups + group] = lessOne ? zero + 1 : zero;
        scales[row * groups + group] = stored[group * rows + row]!;
      }
    }
    this.#kept = { name, words: wordsOf('qweight'), scales, zeroPoints };
    return this.#kept;
  }
}

const isZero = (values: Float32Array): boolean => values.every((value) => value === 0);
