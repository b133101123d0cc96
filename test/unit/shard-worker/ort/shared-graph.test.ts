import { describe, expect, it } from 'vitest';
import { decodeOnnx, OnnxWriter } from '../../../../partitioner/graph/onnx-writer.js';
import { sharedGraph } from '../../../../shard-worker/ort/shared-graph.js';

const place = (offset: number, bytes: number) => ({ location: 'rank-0.weights', offset, bytes });

/** A layer as the partitioner writes it: norm, linear with a bias, and a table that another operator reads. */
function layer(
  number: number,
  more: { sizes?: number[]; table?: number; addsBias?: boolean } = {},
): Uint8Array {
  const { addsBias = false, sizes = [4, 4], table = 64 } = more;
  const name = `layer-${number}`;
  const graph = new OnnxWriter(`${name}-mlp`);
  const x = graph.input('x', 'float32', ['tokens', 8]);
  const norm = graph.weight(`${name}.norm`, { ...place(4096 * number, 32), type: 'float32', shape: [8] });
  const weight = graph.weight(`${name}.weight`, {
    ...place(8192 + 4096 * number, 288),
    type: 'uint8',
    shape: [288],
  });
  const bias = graph.weight(`${name}.bias`, {
    ...place(12_288 + 4096 * number, 32),
    type: 'float32',
    shape: [8],
  });
  const cos = graph.weight('cos', { ...place(table, 32), type: 'float32', shape: [1, 8] });
  graph.node('SimplifiedLayerNormalization', [x, norm], [`${name}.normed`]);
  graph.node('Linear', [`${name}.normed`, weight, bias], [`${name}.out`], { bits: 8 }, 'shardserve');
  graph.node('Mul', [`${name}.out`, addsBias ? bias : cos], [`${name}.turned`]);
  graph.node('Split', [`${name}.turned`, graph.integers(`${name}.sizes`, sizes)], ['first', 'second']);
  graph.output('first', 'float32', ['tokens', 4]);
  graph.output('second', 'float32', ['tokens', 4]);
  return graph.encode('test');
}

describe('the graph that layers share', () => {
  it('is the same bytes for layers that differ in weights alone, and tells where these lie', () => {
    const [second, third] = [sharedGraph(layer(2))!, sharedGraph(layer(3))!];
    expect(Buffer.from(second.model).equals(third.model)).toBe(true);
    expect(third.weights).toMatchObject([
      { type: 1, shape: [8], location: 'rank-0.weights', offset: 4096 * 3, bytes: 32 },
      { type: 2, shape: [288], location: 'rank-0.weights', offset: 8192 + 4096 * 3, bytes: 288 },
      { type: 1, shape: [8], location: 'rank-0.weights', offset: 12_288 + 4096 * 3, bytes: 32 },
    ]);
  });

  it('has the weights as inputs behind its own, and computes what it did', () => {
    const { model, weights } = sharedGraph(layer(2))!;
    const [before, after] = [decodeOnnx(layer(2)).graph, decodeOnnx(model).graph];
    expect(after.input.map(({ name }) => name)).toEqual(['x', ...weights.map(({ name }) => name)]);
    expect(after.input[2]!.type.tensor_type).toEqual({ elem_type: 2, shape: { dim: [{ dim_value: 288 }] } });
    expect(after.output.map(({ name }) => name)).toEqual(['first', 'second']);
    expect(after.initializer.map(({ dims }) => dims)).toEqual([[1, 8], [2]]);
    const shape = ({ attribute, domain, input, op_type, output }: (typeof after.node)[0]) => [
      ...[domain, op_type, attribute, input.length, output.length],
    ];
    expect(after.node.map(shape)).toEqual(before.node.map(shape));
    // Every value is made before it is read, under the same name.
    const known = new Set([...after.input, ...after.initializer].map(({ name }) => name));
    for (const { input, output } of after.node) {
      for (const name of input) expect(known).toContain(name);
      for (const name of output) known.add(name);
    }
  });

  it('differs where constants do, or weights that another operator reads', () => {
    const usual = Buffer.from(sharedGraph(layer(2))!.model);
    expect(usual.equals(sharedGraph(layer(2, { sizes: [2, 6] }))!.model)).toBe(false);
    expect(usual.equals(sharedGraph(layer(2, { table: 128 }))!.model)).toBe(false);
    const kept = sharedGraph(layer(2, { addsBias: true }))!;
    expect(kept.weights).toHaveLength(2);
    expect(decodeOnnx(kept.model).graph.initializer.map(({ dims }) => dims)).toEqual([[8], [1, 8], [2]]);
  });

  it('is none where there are no such weights', () => {
    const graph = new OnnxWriter('sum');
    const [a, b] = ['a', 'b'].map((name) => graph.input(name, 'float32', ['values'])) as [string, string];
    graph.node('Add', [a, b], ['sum']);
    graph.output('sum', 'float32', ['values']);
    expect(sharedGraph(graph.encode('test'))).toBeNull();
  });

  it.each(['../rank-0.weights', '/etc/passwd', 'below/rank-0.weights'])(
    'takes no weights from %s',
    (location) => {
      const graph = new OnnxWriter('layer');
      const x = graph.input('x', 'float32', ['tokens', 8]);
      const norm = graph.weight('norm', { location, offset: 0, bytes: 32, type: 'float32', shape: [8] });
      graph.node('SimplifiedLayerNormalization', [x, norm], ['out']);
      graph.output('out', 'float32', ['tokens', 8]);
      expect(() => sharedGraph(graph.encode('test'))).toThrow(`external data lies in ${location}`);
    },
  );
});
