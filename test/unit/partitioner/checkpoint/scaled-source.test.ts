/** partitioner/checkpoint/scaled-source.ts: scales a tensor, an output, a group and a block by hand, and what does not fit together. */
import { describe, expect, it } from 'vitest';
import type { ScaledQuantisation } from '../../../../partitioner/checkpoint/quantisation.js';
import { scaledSource } from '../../../../partitioner/checkpoint/scaled-source.js';
import type {
  IntegerInfo,
  TensorInfo,
  TensorSource,
} from '../../../../partitioner/checkpoint/tensor-source.js';

interface Stored {
  type: string;
  shape: number[];
  bytes: Uint8Array;
}

const bytesOf = (values: Int8Array | Int32Array | Float32Array | BigInt64Array): Uint8Array =>
  new Uint8Array(values.buffer);
const I8 = (shape: number[], values: number[]): Stored => ({
  type: 'I8',
  shape,
  bytes: bytesOf(Int8Array.from(values)),
});
const F8 = (shape: number[], values: number[]): Stored => ({
  type: 'F8_E4M3',
  shape,
  bytes: Uint8Array.from(values),
});
const I32 = (shape: number[], values: number[]): Stored => ({
  type: 'I32',
  shape,
  bytes: bytesOf(Int32Array.from(values)),
});
const I64 = (values: number[]): Stored => ({
  type: 'I64',
  shape: [values.length],
  bytes: bytesOf(BigInt64Array.from(values.map(BigInt))),
});
const F32 = (shape: number[], values: number[]): Stored => ({
  type: 'F32',
  shape,
  bytes: bytesOf(Float32Array.from(values)),
});

/** Tensors in memory. */
function memorySource(stored: Record<string, Stored>): TensorSource {
  const tensors = new Map<string, TensorInfo>();
  const integers = new Map<string, IntegerInfo>();
  for (const [name, { type, shape }] of Object.entries(stored)) {
    if (type === 'F32') tensors.set(name, { name, type: 'float32', shape });
    else integers.set(name, { type, shape });
  }
  const rows = (name: string, from: number, to: number): Uint8Array => {
    const { bytes, shape } = stored[name]!;
    const row = bytes.length / (shape[0] ?? 1);
    return bytes.slice(from * row, to * row);
  };
  return {
    tensors,
    integers,
    unsupported: new Map([...integers].map(([name, { type }]) => [name, type])),
    files: [],
    readFloat32: (name, from, to) => new Float32Array(rows(name, from, to).buffer),
    readBytes: rows,
    readIntegerBytes: rows,
    close: () => {},
  };
}

const INT8: ScaledQuantisation = {
  method: 'compressed-tensors',
  scale: 'weight_scale',
  kind: 'integer',
  bits: 8,
  asymmetric: false,
  groupSize: null,
  block: null,
};
const FLOAT8 = { ...INT8, kind: 'float' } as const;
const read = (stored: Record<string, Stored>, how: ScaledQuantisation, from = 0, to = 2): number[] => [
  ...scaledSource(memorySource(stored), how).readFloat32('x.weight', from, to),
];

describe('whole numbers', () => {
  const weight = { 'x.weight': I8([2, 4], [1, -2, 127, -128, 0, 3, 4, 5]) };

  it('have a scale of all, of an output, of a group, and zero points', () => {
    expect(read({ ...weight, 'x.weight_scale': F32([1], [2]) }, INT8)).toEqual([
      2, -4, 254, -256, 0, 6, 8, 10,
    ]);
    const ofOutputs = { ...weight, 'x.weight_scale': F32([2, 1], [2, 0.5]) };
    expect(read(ofOutputs, INT8, 1)).toEqual([0, 1.5, 2, 2.5]);
    const ofGroups = { ...weight, 'x.weight_scale': F32([2, 2], [1, 2, 4, 8]) };
    expect(read(ofGroups, { ...INT8, groupSize: 2 })).toEqual([1, -2, 254, -256, 0, 12, 32, 40]);
    const withZeros = { ...ofOutputs, 'x.weight_zero_point': I8([2, 1], [1, -1]) };
    expect(read(withZeros, { ...INT8, asymmetric: true })).toEqual([0, -6, 252, -258, 0.5, 2, 2.5, 3]);
  });

  it('are handed on as codes around 128, unless they have zero points or blocks', () => {
    const stored = { ...weight, 'x.weight_scale': F32([2, 1], [2, 0.5]) };
    const source = scaledSource(memorySource(stored), INT8);
    expect(source.coded?.get('x.weight')).toEqual({ groupSize: 4, isContiguous: true, bits: 8 });
    expect(source.readCodes?.('x.weight', 1, 2)).toEqual({
      packed: Uint8Array.from([128, 131, 132, 133]),
      scales: Float32Array.from([0.5]),
      zeroPoints: Uint8Array.from([128]),
    });
    const inBlocks = { ...weight, 'x.weight_scale': F32([1, 2], [1, 2]) };
    const other = scaledSource(memorySource(inBlocks), { ...INT8, block: [2, 2] });
    expect(other.coded?.size).toBe(0);
    expect([...other.readFloat32('x.weight', 0, 2)]).toEqual([1, -2, 254, -256, 0, 3, 8, 10]);
  });

  it('are packed eight a word, with zero points along the outputs and columns in any order', () => {
    // Codes less 8: −8 … −1, and 0 … 7.
    const stored = {
      'x.weight_packed': I32([2, 1], [0x76543210, 0xfedcba98 | 0]),
      'x.weight_shape': I64([2, 8]),
      'x.weight_scale': F32([2, 2], [1, 2, 3, 4]),
      'x.weight_zero_point': I32([1, 2], [0x88, 0x98]),
    };
    const how = { ...INT8, bits: 4, asymmetric: true, groupSize: 4 } as const;
    const expected = [-8, -7, -6, -5, -8, -6, -4, -2, 0, 3, 6, 9, 12, 16, 20, 24];
    expect(read(stored, how)).toEqual(expected);
    const source = scaledSource(memorySource(stored), how);
    expect(source.coded?.get('x.weight')).toEqual({ groupSize: 4, isContiguous: true, bits: 4 });
    expect(source.readCodes?.('x.weight', 0, 1).packed).toEqual(Uint8Array.from([0x10, 0x32, 0x54, 0x76]));
    const turned = { ...stored, 'x.weight_g_idx': I32([8], [1, 1, 1, 1, 0, 0, 0, 0]) };
    expect(read(turned, how, 0, 1)).toEqual([-16, -14, -12, -10, -4, -3, -2, -1]);
    expect(scaledSource(memorySource(turned), how).coded?.get('x.weight')?.isContiguous).toBe(false);
  });
});

describe('floats of 8 bits', () => {
  // 1, −1.125, the largest, the least.
  const weight = { 'x.weight': F8([2, 2], [0x38, 0xb9, 0x7e, 0x01]) };

  it('have a scale of an output, and of a block under another name', () => {
    expect(read({ ...weight, 'x.weight_scale': F32([2, 1], [1, 2]) }, FLOAT8)).toEqual([
      1,
      -1.125,
      896,
      2 ** -8,
    ]);
    const blocks = { ...weight, 'x.weight_scale_inv': F32([2, 2], [1, 2, 3, 512]) };
    const how = { ...FLOAT8, method: 'fp8', scale: 'weight_scale_inv', block: [1, 1] } as const;
    expect(read(blocks, how)).toEqual([1, -2.25, 1344, 1]);
  });

  it('that are none are refused', () => {
    const stored = { 'x.weight': F8([1, 2], [0x38, 0x7f]), 'x.weight_scale': F32([1], [1]) };
    expect(() => read(stored, FLOAT8, 0, 1)).toThrow('x.weight is partly no number');
  });
});

describe('parts that do not fit', () => {
  const weight = I8([2, 4], [1, 2, 3, 4, 5, 6, 7, 8]);
  it.each<[string, Record<string, Stored>, ScaledQuantisation, string]>([
    ['no scale', { 'x.weight': weight }, INT8, 'x.weight_scale is missing'],
    [
      'another number of scales',
      { 'x.weight': weight, 'x.weight_scale': F32([3, 1], [1, 1, 1]) },
      INT8,
      '[3, 1], expected [2, 1]',
    ],
    [
      'whole numbers for floats',
      { 'x.weight': weight, 'x.weight_scale': F32([1], [1]) },
      FLOAT8,
      'I8 [2, 4], expected F8_E4M3',
    ],
    [
      'no zero points',
      { 'x.weight': weight, 'x.weight_scale': F32([1], [1]) },
      { ...INT8, asymmetric: true },
      'x.weight_zero_point is no I8 [2, 1]',
    ],
    [
      'another shape than its words',
      { 'x.weight_packed': I32([1, 1], [0]), 'x.weight_shape': I64([1, 7]), 'x.weight_scale': F32([1], [1]) },
      { ...INT8, bits: 4 },
      'packed of [1, 7], but its words hold [1, 8]',
    ],
  ])('%s: refused', (_, stored, how, message) => {
    const open = (): unknown => scaledSource(memorySource(stored), how);
    expect(open).toThrow(message);
    expect(open).toThrow(expect.objectContaining({ code: 'CHECKPOINT_INVALID' }));
  });
});
