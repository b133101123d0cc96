/** shard-worker/ort/merge-graphs.ts, merge-program.ts: several graphs as one compute what they do one after the other. */
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { OnnxWriter } from '../../../../partitioner/graph/onnx-writer.js';
import type { ManifestBuffer, ProgramOp } from '../../../../proto/manifest.js';
import { mergeProgram } from '../../../../shard-worker/merge-program.js';
import { type MergedGraph, mergeGraphs } from '../../../../shard-worker/ort/merge-graphs.js';

/** y = x · factor + x; z = y + other. Both begin with the same names, a constant among them. */
function graphOf(factor: number, { dimension = 'tokens', readsTwice = false } = {}): Uint8Array {
  const graph = new OnnxWriter('toy');
  const x = graph.input('x', 'float32', [dimension, 2]);
  const other = graph.input('other', 'float32', [dimension, 2]);
  graph.node('Mul', [x, graph.floats('factor', [factor])], ['scaled']);
  graph.node('Add', ['scaled', x], ['y']);
  graph.node('Add', ['y', other], ['z']);
  // Nobody's way to z.
  if (readsTwice) {
    graph.node('Neg', [other], ['negative']);
    graph.output('negative', 'float32', [dimension, 2]);
  }
  graph.output('y', 'float32', [dimension, 2]);
  graph.output('z', 'float32', [dimension, 2]);
  return graph.encode('test');
}

async function run(graph: MergedGraph, buffers: Record<string, number[]>): Promise<Record<string, number[]>> {
  const session = await InferenceSession.create(graph.model);
  const feeds = Object.fromEntries(
    Object.entries(graph.inputs).map(([name, buffer]) => {
      const values = buffers[buffer]!;
      return [name, new Tensor('float32', Float32Array.from(values), [values.length / 2, 2])];
    }),
  );
  const made = await session.run(feeds);
  return Object.fromEntries(
    Object.entries(graph.outputs).map(([name, buffer]) => [buffer, [...(made[name]!.data as Float32Array)]]),
  );
}

const part = (factor: number, names: Record<'x' | 'other' | 'y' | 'z', string>, options = {}) => ({
  model: graphOf(factor, options),
  inputs: { x: names.x, other: names.other },
  outputs: { y: names.y, z: names.z, negative: 'negative' },
});

describe('mergeGraphs', () => {
  const first = part(2, { x: 'a', other: 'b', y: 'c', z: 'd' });
  const second = part(10, { x: 'c', other: 'd', y: 'e', z: 'f' });

  it('passes on what one makes and the next reads, and gives what is kept', async () => {
    const merged = mergeGraphs([first, second], new Set(['d', 'f']))!;
    expect(Object.values(merged.inputs)).toEqual(['a', 'b']);
    // c = 3, 6; d = 103, 206; e = 33, 66; f = e + d.
    expect(await run(merged, { a: [1, 2], b: [100, 200] })).toEqual({ d: [103, 206], f: [136, 272] });
  });

  it('writes a buffer that is read, where everything that reads it comes before', async () => {
    const back = part(10, { x: 'c', other: 'd', y: 'e', z: 'b' });
    const merged = mergeGraphs([first, back], new Set(['b']))!;
    expect(await run(merged, { a: [1, 2], b: [100, 200] })).toEqual({ b: [136, 272] });
    const reader = part(2, { x: 'a', other: 'b', y: 'c', z: 'd' }, { readsTwice: true });
    expect(mergeGraphs([reader, back], new Set(['b', 'negative']))).toBeNull();
    // Nobody keeps it: it is another value of the same name.
    expect(mergeGraphs([reader, back], new Set(['e']))).not.toBeNull();
  });

  it('keeps the dimensions of parts apart that are of another size in each', async () => {
    const options = { dimension: 's' };
    const other = part(10, { x: 'k', other: 'l', y: 'm', z: 'n' }, options);
    const merged = mergeGraphs(
      [part(2, { x: 'a', other: 'b', y: 'c', z: 'd' }, options), other],
      new Set(['d', 'n']),
      ['s'],
    )!;
    const session = await InferenceSession.create(merged.model);
    const shapes = session.inputMetadata.map((one) => (one as InferenceSession.TensorValueMetadata).shape[0]);
    expect(shapes).toEqual(['0/s', '0/s', '1/s', '1/s']);
    const seen = await run(merged, { a: [1, 2], b: [0, 0], k: [1, 1, 1, 1], l: [0, 0, 0, 1] });
    expect(seen).toEqual({ d: [3, 6], n: [11, 11, 11, 12] });
  });
});

describe('mergeProgram', () => {
  const buffer = (name: string, first: ManifestBuffer['first'] = 'tokens'): ManifestBuffer => ({
    ...{ name, first, columns: 2, type: 'float32', shape: 'rank2', place: 'worker' },
  });
  const buffers = [...['a', 'b', 'c', 'd', 'e', 'f'].map((name) => buffer(name)), buffer('logits', 'rows')];
  const io = { ids: 'a', positions: 'a', rows: 'a', output: 'logits' };
  const runOp = (segment: string, x: string, other: string, y: string, z: string): ProgramOp => ({
    ...{ op: 'run', segment, inputs: { x, other }, outputs: { y, z } },
  });
  const attend: ProgramOp = {
    op: 'attend',
    layer: 0,
    query: 'c',
    key: 'd',
    value: 'd',
    output: 'e',
    window: null,
  };
  const models: Record<string, Uint8Array> = { one: graphOf(2), two: graphOf(10), three: graphOf(0) };
  const merge = (program: ProgramOp[]) =>
    mergeProgram({ buffers, io, program }, (segment) => models[segment]!);

  it('joins runs up to an attention, a sum, and what makes rows', async () => {
    const { program, models: made } = merge([
      runOp('one', 'a', 'b', 'c', 'd'),
      runOp('two', 'c', 'd', 'e', 'f'),
      attend,
      runOp('two', 'e', 'f', 'c', 'd'),
      { op: 'all-reduce', partial: 'c', sum: 'd' },
      runOp('one', 'c', 'd', 'e', 'f'),
      runOp('three', 'e', 'f', 'logits', 'logits'),
    ]);
    expect(program.map((op) => (op.op === 'run' ? op.segment : op.op))).toEqual([
      ...['one+two', 'attend', 'two', 'all-reduce', 'one', 'three'],
    ]);
    const [op] = program;
    if (op?.op !== 'run') throw new Error('no run');
    // The attention reads c and d, and writes rows of e; f is read behind it.
    expect(Object.values(op.outputs).sort()).toEqual(['c', 'd', 'e', 'f']);
    const graph = { model: made.get('one+two')!, inputs: op.inputs, outputs: op.outputs };
    expect(await run(graph, { a: [1, 2], b: [0, 0] })).toMatchObject({ c: [3, 6], e: [33, 66] });
  });

  it('leaves a program of single runs as it is', () => {
    const program = [runOp('one', 'a', 'b', 'c', 'd'), attend];
    expect(merge(program)).toEqual({ program, models: new Map() });
  });
});
