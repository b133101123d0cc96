/** partitioner/checkpoint/coded-source.ts and mxfp4-source.ts: words and blocks by hand, and what does not fit together. */
import { describe, expect, it } from 'vitest';
import { codedSource } from '../../../../partitioner/checkpoint/coded-source.js';
import { mxfp4Source } from '../../../../partitioner/checkpoint/mxfp4-source.js';
import type { Quantisation } from '../../../../partitioner/checkpoint/quantisation.js';
import type {
  IntegerInfo,
  TensorInfo,
  TensorSource,
} from '../../../../partitioner/checkpoint/tensor-source.js';
import { viewSource } from '../../../../partitioner/checkpoint/view-source.js';

interface Stored {
  type: 'U8' | 'I32' | 'F32';
  shape: number[];
  values: number[];
}

const I32 = (shape: number[], values: number[]): Stored => ({ type: 'I32', shape, values });
const F32 = (shape: number[], values: number[]): Stored => ({ type: 'F32', shape, values });
const U8 = (shape: number[], values: number[]): Stored => ({ type: 'U8', shape, values });

/** Tensors in memory. */
function memorySource(stored: Record<string, Stored>): TensorSource {
  const tensors = new Map<string, TensorInfo>();
  const integers = new Map<string, IntegerInfo>();
  for (const [name, { type, shape }] of Object.entries(stored)) {
    if (type === 'F32') tensors.set(name, { name, type: 'float32', shape });
    else integers.set(name, { type, shape });
  }
  const rowOf = (name: string): number => (stored[name]?.shape ?? []).slice(1).reduce((a, b) => a * b, 1);
  const slice = (name: string, from: number, to: number): number[] =>
    stored[name]?.values.slice(from * rowOf(name), to * rowOf(name)) ?? [];
  return {
    tensors,
    integers,
    unsupported: new Map([...integers].map(([name, { type }]) => [name, type])),
    files: [],
    readFloat32: (name, from, to, into) => {
      const values = Float32Array.from(slice(name, from, to));
      into?.set(values);
      return into ?? values;
    },
    readBytes: () => new Uint8Array(),
    readIntegerBytes: (name, from, to) => {
      const values = slice(name, from, to);
      return stored[name]?.type === 'U8'
        ? Uint8Array.from(values)
        : new Uint8Array(Int32Array.from(values).buffer);
    },
    close: () => {},
  };
}

/** Eight codes → a word, the first lowest. */
const word = (...codes: number[]): number =>
  codes.reduce((sum, code, place) => sum + code * 16 ** place, 0) | 0;
const EIGHT = [1, 2, 3, 4, 5, 6, 7, 8];
const gptq = (
  lessOne: boolean,
  groupSize: number | null = 8,
): Extract<Quantisation, { method: 'gptq' | 'awq' }> => ({
  method: 'gptq',
  groupSize,
  lessOne,
});

/** 16 inputs, 8 outputs: output r has codes 1 … 8 in its first group and 15 in its second; zero points 3 and r; scales 2, 10. */
const GPTQ: Record<string, Stored> = {
  'x.qweight': I32(
    [2, 8],
    [...EIGHT.map(() => word(...EIGHT)), ...EIGHT.map(() => word(...EIGHT.map(() => 15)))],
  ),
  'x.qzeros': I32([2, 1], [word(...EIGHT.map(() => 3)), word(0, 1, 2, 3, 4, 5, 6, 7)]),
  'x.scales': F32([2, 8], [...EIGHT.map(() => 2), ...EIGHT.map(() => 10)]),
};

describe('GPTQ', () => {
  it('is (code − zero point) · scale, by groups of inputs', () => {
    const source = codedSource(memorySource(GPTQ), gptq(false));
    expect(source.tensors.get('x.weight')?.shape).toEqual([8, 16]);
    expect([...source.readFloat32('x.weight', 5, 6)]).toEqual([
      ...EIGHT.map((code) => (code - 3) * 2),
      ...EIGHT.map(() => 100),
    ]);
    expect([...source.tensors.keys(), ...(source.unsupported?.keys() ?? [])]).toEqual(['x.weight']);
  });

  it('of the first format has zero points less one', () => {
    const values = codedSource(memorySource(GPTQ), gptq(true)).readFloat32('x.weight', 5, 6);
    expect([values[0], values[8]]).toEqual([(1 - 4) * 2, (15 - 6) * 10]);
  });

  it('hands its codes on: the even column in the low half of a byte', () => {
    const { packed, scales, zeroPoints } =
      codedSource(memorySource(GPTQ), gptq(false)).readCodes?.('x.weight', 6, 8) ?? {};
    const row = [0x21, 0x43, 0x65, 0x87, 0xff, 0xff, 0xff, 0xff];
    expect([...(packed ?? [])]).toEqual([...row, ...row]);
    expect([...(scales ?? [])]).toEqual([2, 10, 2, 10]);
    expect([...(zeroPoints ?? [])]).toEqual([3, 6, 3, 7]);
  });

  it('may have one group for all inputs, and columns out of their order', () => {
    const one = {
      ...GPTQ,
      'x.qzeros': I32([1, 1], [0]),
      'x.scales': F32(
        [1, 8],
        EIGHT.map(() => 2),
      ),
    };
    const whole = codedSource(memorySource(one), gptq(false, null));
    expect(whole.coded?.get('x.weight')).toEqual({ groupSize: 16, isContiguous: true });
    expect(whole.readFloat32('x.weight', 0, 1)[15]).toBe(30);

    const turn = {
      ...GPTQ,
      'x.g_idx': I32(
        [16],
        Array.from({ length: 16 }, (_, column) => column % 2),
      ),
    };
    const ordered = codedSource(memorySource(turn), gptq(false));
    expect(ordered.coded?.get('x.weight')).toEqual({ groupSize: 8, isContiguous: false });
    expect([...ordered.readFloat32('x.weight', 4, 5).subarray(0, 4)]).toEqual([-4, -20, 0, 0]);
  });

  it('of a fused weight are those of the rows that a view picks, and of its factor', () => {
    const source = viewSource(codedSource(memorySource(GPTQ), gptq(false)), [
      {
        name: 'part',
        shape: [4, 16],
        sources: [{ name: 'x.weight', shape: [8, 16] }],
        rows: { unitRows: 1, groupUnits: 2, firstUnit: 1, units: 1 },
        transposed: false,
        factor: 0.5,
        addend: 0,
      },
    ]);
    expect(source.coded?.get('part')).toEqual({ groupSize: 8, isContiguous: true });
    const { packed, scales, zeroPoints } = source.readCodes?.('part', 1, 3) ?? {};
    expect(packed?.length).toBe(16);
    expect([...(scales ?? [])]).toEqual([1, 5, 1, 5]);
    expect([...(zeroPoints ?? [])]).toEqual([3, 3, 3, 5]);
  });

  it('knows biases that are zero from others', () => {
    const biases = {
      'x.bias': F32(
        [8],
        EIGHT.map(() => 0),
      ),
    };
    expect([...(codedSource(memorySource({ ...GPTQ, ...biases }), gptq(true)).needless ?? [])]).toEqual([
      'x.bias',
    ]);
    const one = { 'x.bias': F32([8], EIGHT) };
    expect(codedSource(memorySource({ ...GPTQ, ...one }), gptq(true)).needless?.size).toBe(0);
  });

  it.each<[string, Record<string, Stored>, string]>([
    ['no zero points', { 'x.qzeros': F32([1], [0]) }, 'x.qzeros is no I32'],
    ['other groups', { 'x.qzeros': I32([1, 1], [0]) }, '[1, 1], expected [2, 1] in groups of 8'],
    ['other scales', { 'x.scales': F32([1, 8], EIGHT) }, 'x.scales is [1, 8], expected [2, 8]'],
    ['a group that is none', { 'x.g_idx': I32([16], new Array<number>(16).fill(2)) }, 'names group 2 of 2'],
    ['a weight as well', { 'x.weight': F32([1], [0]) }, 'there beside its codes'],
  ])('refuses %s', (_, changes, message) => {
    expect(() => codedSource(memorySource({ ...GPTQ, ...changes }), gptq(true))).toThrow(message);
  });

  it('refuses a 15 among zero points less one', () => {
    const source = codedSource(
      memorySource({ ...GPTQ, 'x.qzeros': I32([2, 1], [word(15, 1, 1, 1, 1, 1, 1, 1), 0]) }),
      gptq(true),
    );
    expect(() => source.readFloat32('x.weight', 0, 1)).toThrow('gptq_v2');
  });
});

it('AWQ keeps outputs 0, 2, 4, 6, 1, 3, 5, 7 in a word', () => {
  const columns = Array.from({ length: 4 }, () => word(0, 2, 4, 6, 1, 3, 5, 7));
  const source = codedSource(
    memorySource({
      'x.qweight': I32([4, 1], columns),
      'x.qzeros': I32([1, 1], [word(0, 1, 0, 1, 0, 1, 0, 1)]),
      'x.scales': F32([1, 8], EIGHT),
    }),
    { method: 'awq', groupSize: null, lessOne: false },
  );
  const zeros = [0, 0, 1, 1, 0, 0, 1, 1]; // of outputs 0 … 7
  for (let output = 0; output < 8; output++) {
    expect(source.readFloat32('x.weight', output, output + 1)[3]).toBe(
      (output - zeros[output]!) * EIGHT[output]!,
    );
  }
});

describe('MXFP4', () => {
  const blocks = U8(
    [2, 1, 1, 16],
    [...Array.from({ length: 16 }, (_, byte) => byte * 0x11), ...new Array<number>(16).fill(0x72)],
  );

  it('is sign, exponent and mantissa times a power of two', () => {
    const source = mxfp4Source(memorySource({ x_blocks: blocks, x_scales: U8([2, 1, 1], [127, 125]) }));
    expect(source.tensors.get('x')?.shape).toEqual([2, 1, 32]);
    const even = [...source.readFloat32('x', 0, 1)].filter((_, index) => index % 2 === 0);
    expect(even).toEqual([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6]);
    expect([...source.readFloat32('x', 1, 2).subarray(0, 2)]).toEqual([0.25, 1.5]);
    expect(source.unsupported?.size).toBe(0);
  });

  it('refuses blocks without scales, and a scale that is no number', () => {
    expect(() => mxfp4Source(memorySource({ x_blocks: blocks }))).toThrow('x_blocks of type U8');
    const source = mxfp4Source(memorySource({ x_blocks: blocks, x_scales: U8([2, 1, 1], [127, 255]) }));
    expect(() => source.readFloat32('x', 1, 2)).toThrow('x_scales has 255');
  });
});
