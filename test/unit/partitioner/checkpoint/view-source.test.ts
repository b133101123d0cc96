/** partitioner/checkpoint/view-source.ts: parts of fused tensors, transposed, joined and scaled ones, and other names. */
import { describe, expect, it } from 'vitest';
import type { TensorInfo, TensorSource } from '../../../../partitioner/checkpoint/tensor-source.js';
import {
  renamedSource,
  type TensorView,
  viewSource,
} from '../../../../partitioner/checkpoint/view-source.js';

/** Tensors whose element i is i. */
class CountingSource implements TensorSource {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly files = [];
  reads = 0;

  constructor(shapes: Record<string, number[]>) {
    this.tensors = new Map(
      Object.entries(shapes).map(([name, shape]) => [name, { name, type: 'float32', shape }]),
    );
  }

  readFloat32(name: string, rowStart: number, rowEnd: number, into?: Float32Array): Float32Array {
    this.reads++;
    const [, ...rest] = this.tensors.get(name)?.shape ?? [];
    const width = rest.reduce((product, size) => product * size, 1);
    const values = into ?? new Float32Array((rowEnd - rowStart) * width);
    return fill(values, rowStart * width);
  }

  readBytes(): Uint8Array {
    return new Uint8Array();
  }

  close(): void {}
}

function fill(values: Float32Array, from: number): Float32Array {
  for (let index = 0; index < values.length; index++) values[index] = from + index;
  return values;
}

const view = (fields: Partial<TensorView> & Pick<TensorView, 'shape' | 'sources'>): TensorView => ({
  name: 'view',
  rows: null,
  transposed: false,
  factor: 1,
  addend: 0,
  ...fields,
});

function read(source: TensorSource, one: TensorView, start: number, end: number): number[] {
  return [...viewSource(source, [one]).readFloat32(one.name, start, end)];
}

describe('a view', () => {
  // Three groups of 4 units of 2 rows: rows 0 … 23, each of one element.
  const fused = { name: 'fused', shape: [24, 1] };
  const grouped = view({
    shape: [12, 1],
    sources: [fused],
    rows: { unitRows: 2, groupUnits: 4, firstUnit: 1, units: 2 },
  });

  it('picks its units of every group', () => {
    const source = new CountingSource({ fused: fused.shape });
    expect(read(source, grouped, 0, 12)).toEqual([2, 3, 4, 5, 10, 11, 12, 13, 18, 19, 20, 21]);
    expect(source.reads).toBe(3);
  });

  it.each([
    [1, 3],
    [3, 9],
    [5, 5],
    [11, 12],
  ])('rows %i to %i are those of the whole', (start, end) => {
    const source = new CountingSource({ fused: fused.shape });
    expect(read(source, grouped, start, end)).toEqual(read(source, grouped, 0, 12).slice(start, end));
  });

  it('turns a tensor, and reads it once for many ranges', () => {
    const source = new CountingSource({ stored: [3, 4] });
    const views = viewSource(source, [
      view({ shape: [4, 3], sources: [{ name: 'stored', shape: [3, 4] }], transposed: true }),
    ]);
    expect([...views.readFloat32('view', 0, 2)]).toEqual([0, 4, 8, 1, 5, 9]);
    expect([...views.readFloat32('view', 3, 4)]).toEqual([3, 7, 11]);
    expect(source.reads).toBe(1);
  });

  it('picks rows of what it turns', () => {
    const source = new CountingSource({ stored: [2, 6] });
    const part = view({
      shape: [2, 2],
      sources: [{ name: 'stored', shape: [2, 6] }],
      transposed: true,
      rows: { unitRows: 2, groupUnits: 3, firstUnit: 1, units: 1 },
    });
    expect(read(source, part, 0, 2)).toEqual([2, 8, 3, 9]);
  });

  it('reads a matrix of a stack, every other row of it, and its row of biases', () => {
    const source = new CountingSource({ stack: [3, 4, 2], biases: [3, 4] });
    const rows = { unitRows: 1, groupUnits: 2, firstUnit: 1, units: 1 };
    const matrix = view({ shape: [2, 2], sources: [{ name: 'stack', shape: [3, 4, 2] }], matrix: 1, rows });
    expect(read(source, matrix, 0, 2)).toEqual([10, 11, 14, 15]);
    const bias = view({ shape: [2], sources: [{ name: 'biases', shape: [3, 4] }], matrix: 2, rows });
    expect(read(source, bias, 0, 2)).toEqual([9, 11]);
    const all = view({ shape: [4], sources: [{ name: 'biases', shape: [3, 4] }], matrix: 0 });
    expect(read(source, all, 1, 3)).toEqual([1, 2]);
  });

  it('turns the matrix of each head, which is the rows of a group', () => {
    // Two heads of 2 + 1 rows of 3 columns: 0 … 8, then 9 … 17.
    const source = new CountingSource({ fused: [6, 3] });
    const rows = { unitRows: 1, groupUnits: 3, firstUnit: 0, units: 2 };
    const keys = view({
      shape: [6, 2],
      sources: [{ name: 'fused', shape: [6, 3] }],
      rows,
      ofHeads: 'turned',
    });
    expect(read(source, keys, 0, 6)).toEqual([0, 3, 1, 4, 2, 5, 9, 12, 10, 13, 11, 14]);
    expect(read(source, keys, 2, 5)).toEqual([2, 5, 9, 12, 10, 13]);
    const last = { ...keys, rows: { ...rows, firstUnit: 2, units: 1 }, shape: [6, 1] };
    expect(read(source, last, 0, 6)).toEqual([6, 7, 8, 15, 16, 17]);
    expect(read(source, { ...last, shape: [2, 3], ofHeads: 'upright' }, 0, 2)).toEqual([6, 7, 8, 15, 16, 17]);
  });

  it('turns a matrix of a stack, and reads it once for several views', () => {
    const source = new CountingSource({ stack: [2, 2, 4] });
    const half = (firstUnit: number): TensorView =>
      view({
        name: `half-${firstUnit}`,
        shape: [2, 2],
        sources: [{ name: 'stack', shape: [2, 2, 4] }],
        matrix: 1,
        transposed: true,
        rows: { unitRows: 1, groupUnits: 2, firstUnit, units: 1 },
      });
    const views = viewSource(source, [half(0), half(1)]);
    expect([...views.readFloat32('half-0', 0, 2)]).toEqual([8, 12, 10, 14]);
    expect([...views.readFloat32('half-1', 1, 2)]).toEqual([11, 15]);
    expect(source.reads).toBe(1);
  });

  it('joins vectors as rows', () => {
    const source = new CountingSource({ a: [3], b: [3] });
    const sources = ['a', 'b'].map((name) => ({ name, shape: [3] }));
    expect(read(source, view({ shape: [2, 3], sources }), 0, 2)).toEqual([0, 1, 2, 0, 1, 2]);
    expect(read(source, view({ shape: [2, 3], sources }), 1, 2)).toEqual([0, 1, 2]);
  });

  it('makes one row of one vector', () => {
    const source = new CountingSource({ a: [3] });
    const sources = [{ name: 'a', shape: [3] }];
    expect(read(source, view({ shape: [1, 3], sources }), 0, 1)).toEqual([0, 1, 2]);
  });

  it('multiplies and adds', () => {
    const source = new CountingSource({ a: [3] });
    const scaled = view({ shape: [3], sources: [{ name: 'a', shape: [3] }], factor: 2, addend: 1 });
    expect(read(source, scaled, 0, 3)).toEqual([1, 3, 5]);
  });

  it('has no bytes of its own, and leaves the other tensors as they are', () => {
    const source = viewSource(new CountingSource({ fused: fused.shape }), [grouped]);
    expect(() => source.readBytes('view', 0, 1)).toThrow('no bytes of its own');
    expect([...source.readFloat32('fused', 4, 6)]).toEqual([4, 5]);
    expect(source.tensors.get('view')).toEqual({ name: 'view', type: 'float32', shape: [12, 1] });
  });
});

describe('other names', () => {
  it('are found under the model’s, and read under the checkpoint’s', () => {
    const source = new CountingSource({ 'h.0.weight': [2, 1] });
    const renamed = renamedSource(source, [[/^(?=h\.)/, 'transformer.']]);
    expect([...renamed.tensors.keys()]).toEqual(['transformer.h.0.weight']);
    expect([...renamed.readFloat32('transformer.h.0.weight', 1, 2)]).toEqual([1]);
  });
});
