/**
 * Linears in whole numbers or floats of 8 bits with scales beside them, as tensors of their own: `X.weight` [out, in] as the floats that they are,
 * and where they are whole numbers also as their codes.
 *
 * Layout  `X.weight` I8 or F8_E4M3 [out, in], `X.weight_scale` (fp8 of transformers: `X.weight_scale_inv`, which is multiplied as well): one number,
 *         [out, 1], [out, groups], or one a block of outputs and inputs.
 *         pack-quantized: `X.weight_packed` I32 [out, in · bits / 32], the lowest bits first, 2^(bits − 1) added; `X.weight_shape` I64 [2];
 *         perhaps `X.weight_g_idx` I32 [in]. Zero points: I8 [out, groups], or packed along outputs like the weights
 * In      TensorSource of the checkpoint, ScaledQuantisation
 * Out     TensorSource with X.weight instead of these; weight = (code − zero point) · scale, one rounding to float32
 * Limits  memory: the rows asked for, and their scales
 * Errors  ServingError CHECKPOINT_INVALID: parts that are missing or do not fit each other; a float that is no number
 * Source  compressed-tensors compressors/ (naive_quantized, pack_quantized); transformers integrations/finegrained_fp8.py, fbgemm_fp8.py
 */
import assert from 'node:assert/strict';
import { readGroupIndex, wrongTensor } from './group-index.js';
import type { ScaledQuantisation } from './quantisation.js';
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

/** How one linear's scales lie. */
interface Linear {
  stem: string;
  rows: number;
  columns: number;
  /** Tensor of the codes. */
  codes: string;
  packed: boolean;
  scale: string;
  /** Rows and columns of a scale. */
  scaleRows: number;
  scaleColumns: number;
  /** Scales of a row. */
  groups: number;
  zeros: string | null;
  /** Each column's group; null: side by side. */
  groupOf: Int32Array | null;
}

/** What stands for each byte of F8_E4M3. */
const FLOAT8 = Float32Array.from({ length: 256 }, (_, byte) => {
  const [exponent, fraction] = [(byte >> 3) & 15, byte & 7];
  if (exponent === 15 && fraction === 7) return Number.NaN;
  const size = exponent === 0 ? fraction * 2 ** -9 : (8 + fraction) * 2 ** (exponent - 10);
  return byte > 127 ? -size : size;
});

/** Scales of activations and of the cache, which are rounded here in our own way or not at all. */
const NEEDLESS =
  /\.(?:input_scale|input_zero_point|input_scale_ub|output_scale|output_zero_point|[kqv]_scale|[kqv]_zero_point)$/;

/** @throws ServingError CHECKPOINT_INVALID */
export function scaledSource(source: TensorSource, quantisation: ScaledQuantisation): TensorSource {
  return new ScaledSource(source, quantisation);
}

class ScaledSource implements TensorSource {
  readonly tensors: Map<string, TensorInfo>;
  readonly unsupported: Map<string, string>;
  readonly files: readonly SourceFile[];
  readonly coded = new Map<string, CodedInfo>();
  readonly needless: ReadonlySet<string>;
  readonly #source: TensorSource;
  readonly #how: ScaledQuantisation;
  readonly #linears = new Map<string, Linear>();

  constructor(source: TensorSource, quantisation: ScaledQuantisation) {
    this.#source = source;
    this.#how = quantisation;
    this.tensors = new Map(source.tensors);
    this.unsupported = new Map(source.unsupported);
    this.files = source.files;
    for (const [name, { type }] of source.integers ?? []) {
      if (name.endsWith('.weight_packed')) this.#add(name.slice(0, -'_packed'.length), name, true);
      else if (name.endsWith('.weight') && (type === 'I8' || type === 'F8_E4M3'))
        this.#add(name, name, false);
    }
    const others = [...this.tensors.keys(), ...this.unsupported.keys()];
    this.needless = new Set(others.filter((name) => NEEDLESS.test(name)));
  }

  readFloat32(name: string, rowStart: number, rowEnd: number, into?: Float32Array): Float32Array {
    const linear = this.#linears.get(name);
    if (!linear) return this.#source.readFloat32(name, rowStart, rowEnd, into);
    const elements = checkRowRange(requireTensor(this, name), rowStart, rowEnd, into);
    const values = into === undefined ? new Float32Array(elements) : into.subarray(0, elements);
    const { columns, groupOf, groups, scaleColumns } = linear;
    const codes = readIntegers(this.#source, linear.codes, rowStart, rowEnd);
    const codeAt = this.#decoder(linear, codes);
    const scales = this.#scales(linear, rowStart, rowEnd);
    const zeros = this.#zeros(linear, rowStart, rowEnd);
    for (let row = 0, out = 0; row < rowEnd - rowStart; row++) {
      for (let column = 0; column < columns; column++) {
        const group = row * groups + (groupOf ? groupOf[column]! : Math.floor(column / scaleColumns));
        values[out] = (codeAt(out) - (zeros?.[group] ?? 0)) * scales[group]!;
        out++;
      }
    }
    if (this.#how.kind === 'float' && values.some(Number.isNaN))
      throw wrongTensor(linear.codes, 'partly no number (NaN)');
    return values;
  }

  readCodes(name: string, rowStart: number, rowEnd: number): CodedRows {
    const linear = this.#linears.get(name);
    assert(linear && this.coded.has(name), `${name} is not in codes`);
    checkRowRange(requireTensor(this, name), rowStart, rowEnd, undefined);
    const middle = this.#how.bits === 4 ? 8 : 128;
    const stored = readIntegers(this.#source, linear.codes, rowStart, rowEnd);
    const zeros = this.#zeros(linear, rowStart, rowEnd);
    const scales = this.#scales(linear, rowStart, rowEnd);
    return {
      packed: linear.packed ? stored : stored.map((byte) => byte ^ 0x80),
      scales,
      zeroPoints: Uint8Array.from(scales, (_, group) => middle + (zeros?.[group] ?? 0)),
    };
  }

  readBytes(name: string, rowStart: number, rowEnd: number): Uint8Array {
    if (!this.#linears.has(name)) return this.#source.readBytes(name, rowStart, rowEnd);
    return new Uint8Array(this.readFloat32(name, rowStart, rowEnd).buffer);
  }

  close(): void {
    this.#source.close();
  }

  /** Value of the element at an index of the rows. */
  #decoder({ packed }: Linear, codes: Uint8Array): (index: number) => number {
    if (this.#how.kind === 'float') return (index) => FLOAT8[codes[index]!]!;
    if (!packed) return (index) => (codes[index]! << 24) >> 24;
    if (this.#how.bits === 8) return (index) => codes[index]! - 128;
    return (index) => ((codes[index >> 1]! >> (4 * (index & 1))) & 15) - 8;
  }

  /** [rows, groups] */
  #scales({ groups, scale, scaleRows }: Linear, rowStart: number, rowEnd: number): Float32Array {
    const scales = new Float32Array((rowEnd - rowStart) * groups);
    const first = Math.floor(rowStart / scaleRows);
    const isOne = !Number.isFinite(scaleRows);
    const stored = this.#source.readFloat32(scale, first, isOne ? 1 : Math.ceil(rowEnd / scaleRows));
    for (let row = rowStart; row < rowEnd; row++) {
      const from = isOne ? 0 : (Math.floor(row / scaleRows) - first) * groups;
      scales.set(stored.subarray(from, from + groups), (row - rowStart) * groups);
    }
    return scales;
  }

  /** [rows, groups], around 0; null: none. */
  #zeros({ groups, packed, zeros }: Linear, rowStart: number, rowEnd: number): Int8Array | null {
    if (zeros === null) return null;
    if (!packed) return new Int8Array(readIntegers(this.#source, zeros, rowStart, rowEnd).buffer);
    const { bits } = this.#how;
    const perWord = 32 / bits;
    const first = Math.floor(rowStart / perWord);
    const words = new Uint32Array(
      readIntegers(this.#source, zeros, first, Math.ceil(rowEnd / perWord)).buffer,
    );
    return Int8Array.from({ length: (rowEnd - rowStart) * groups }, (_, index) => {
      const row = rowStart + Math.floor(index / groups);
      const word = words[(Math.floor(row / perWord) - first) * groups + (index % groups)]!;
      return ((word >>> (bits * (row % perWord))) & (2 ** bits - 1)) - 2 ** (bits - 1);
    });
  }

  #add(name: string, codes: string, packed: boolean): void {
    const stem = name.slice(0, -'.weight'.length);
    const { bits, kind } = this.#how;
    const info = this.#source.integers?.get(codes);
    const expected = packed ? 'I32' : kind === 'float' ? 'F8_E4M3' : 'I8';
    if (info?.type !== expected || info.shape.length !== 2) {
      throw wrongTensor(codes, `${info?.type} [${info?.shape.join(', ')}], expected ${expected} [n, m]`);
    }
    const [rows = 0, wide = 0] = info.shape;
    const columns = packed ? (wide * 32) / bits : wide;
    const scale = `${stem}.${this.#how.scale}`;
    const place = this.#scalePlace(requireTensor(this.#source, scale), rows, columns);
    const linear: Linear = {
      ...{ stem, rows, columns, codes, packed, scale },
      ...place,
      zeros: null,
      groupOf: null,
    };
    if (packed) this.#checkShape(linear);
    const ofColumns = { columns, groups: place.groups, groupSize: place.scaleColumns };
    linear.groupOf = packed ? readGroupIndex(this.#source, `${stem}.weight_g_idx`, ofColumns) : null;
    if (this.#how.asymmetric) linear.zeros = this.#zerosOf(linear);
    this.#linears.set(name, linear);
    this.tensors.set(name, { name, type: 'float32', shape: [rows, columns] });
    this.tensors.delete(scale);
    for (const part of ['', '_packed', '_shape', '_zero_point', '_g_idx'])
      this.unsupported.delete(`${name}${part}`);
    const isHeld = kind === 'integer' && place.scaleRows === 1 && (bits === 4 || !this.#how.asymmetric);
    if (!isHeld || (bits === 4 && !packed)) return;
    const isContiguous = linear.groupOf === null;
    this.coded.set(name, { groupSize: place.scaleColumns, isContiguous, bits });
  }

  #scalePlace(
    { name, shape }: TensorInfo,
    rows: number,
    columns: number,
  ): Pick<Linear, 'scaleRows' | 'scaleColumns' | 'groups'> {
    const { block, groupSize } = this.#how;
    if (shape.every((size) => size === 1)) {
      return { scaleRows: Number.POSITIVE_INFINITY, scaleColumns: columns, groups: 1 };
    }
    const [scaleRows, scaleColumns] = block ?? [1, groupSize ?? columns];
    const [high, groups] = [Math.ceil(rows / scaleRows), Math.ceil(columns / scaleColumns)];
    const found = shape.length === 1 ? [...shape, 1] : shape;
    if (found.join() !== [high, groups].join()) {
      throw wrongTensor(name, `[${shape.join(', ')}], expected [${high}, ${groups}]`);
    }
    return { scaleRows, scaleColumns, groups };
  }

  #checkShape({ codes, columns, rows, stem }: Linear): void {
    const name = `${stem}.weight_shape`;
    if (!this.#source.integers?.has(name)) return;
    const seen = [...new BigInt64Array(readIntegers(this.#source, name, 0, 2).buffer)].map(Number);
    if (seen.join() !== [rows, columns].join()) {
      throw wrongTensor(codes, `packed of [${seen.join(', ')}], but its words hold [${rows}, ${columns}]`);
    }
  }

  #zerosOf({ groups, packed, rows, stem }: Linear): string {
    const name = `${stem}.weight_zero_point`;
    const info = this.#source.integers?.get(name);
    const expected = packed ? [Math.ceil((rows * this.#how.bits) / 32), groups] : [rows, groups];
    if (info?.type !== (packed ? 'I32' : 'I8') || info.shape.join() !== expected.join()) {
      throw wrongTensor(name, `no ${packed ? 'I32' : 'I8'} [${expected.join(', ')}]`);
    }
    return name;
  }
}
