/** partitioner/graph/onnx-writer.ts: what is written is read again, and wrong graphs are bugs. */
import { describe, expect, it } from 'vitest';
import { decodeOnnx, OnnxWriter } from '../../../../partitioner/graph/onnx-writer.js';

function toy(): OnnxWriter {
  const graph = new OnnxWriter('toy');
  graph.input('x', 'float32', ['tokens', 8]);
  graph.weight('w', {
    type: 'bfloat16',
    shape: [4, 8],
    location: 'rank-0.weights',
    offset: 2 ** 40 + 4096,
    bytes: 64,
  });
  graph.integers('sizes', [2, -1]);
  graph.node('Mystery', ['x', '', 'w', 'sizes'], ['y', '', 'z'], {
    axis: -1,
    alpha: { float: 0 },
    perm: [1, 0],
  });
  graph.output('y', 'int64', [1, 'tokens']);
  return graph;
}

describe('a written graph', () => {
  const bytes = toy().encode('1.2.3');
  const model = decodeOnnx(bytes);

  it('names its format, its operators and who made it', () => {
    expect(model).toMatchObject({ ir_version: 10, producer_name: 'shardserve', producer_version: '1.2.3' });
    expect(model.opset_import).toEqual([
      { domain: '', version: 24 },
      { domain: 'com.microsoft', version: 1 },
    ]);
  });

  it('keeps nodes, their order of inputs, and attributes with their types: zero and negative too', () => {
    expect(model.graph.node).toEqual([
      {
        name: 'Mystery_0',
        op_type: 'Mystery',
        domain: '',
        input: ['x', '', 'w', 'sizes'],
        output: ['y', '', 'z'],
        attribute: [
          { name: 'axis', i: -1, type: 2, ints: [] },
          { name: 'alpha', f: 0, type: 1, ints: [] },
          { name: 'perm', ints: [1, 0], type: 7 },
        ],
      },
    ]);
  });

  it('points to weights outside, beyond 4 GiB, and holds shapes inside', () => {
    const [weight, sizes] = model.graph.initializer;
    expect(weight).toMatchObject({ name: 'w', dims: [4, 8], data_type: 16 });
    expect(weight?.external_data).toEqual([
      { key: 'location', value: 'rank-0.weights' },
      { key: 'offset', value: String(2 ** 40 + 4096) },
      { key: 'length', value: '64' },
    ]);
    expect(sizes).toMatchObject({ dims: [2], data_type: 7, int64_data: [2, -1] });
  });

  it('types its inputs and outputs', () => {
    const shapeOf = (info: (typeof model.graph.input)[number] | undefined) => info?.type.tensor_type;
    expect(shapeOf(model.graph.input[0])).toMatchObject({
      elem_type: 1,
      shape: { dim: [{ dim_param: 'tokens' }, { dim_value: 8 }] },
    });
    expect(shapeOf(model.graph.output[0])).toMatchObject({
      elem_type: 7,
      shape: { dim: [{ dim_value: 1 }, { dim_param: 'tokens' }] },
    });
  });

  it('begins with the bytes of the specification: field 1, varint, IR 10', () => {
    expect([...bytes.subarray(0, 2)]).toEqual([0x08, 10]);
  });
});

describe('a wrong graph is a bug', () => {
  it.each<[string, (graph: OnnxWriter) => void, string]>([
    [
      'an undefined input',
      (graph) => graph.node('Add', ['x', 'nothing'], ['s']),
      'Add uses undefined nothing',
    ],
    ['a name made twice', (graph) => graph.node('Neg', ['x'], ['y']), 'y is defined twice'],
    ['an output nobody makes', (graph) => graph.output('q', 'float32', [1]), 'output q is made by no node'],
    ['half an integer', (graph) => graph.node('Neg', ['x'], ['n'], { axis: 0.5 }), 'is not an integer'],
  ])('%s', (_, build, message) => {
    expect(() => build(toy())).toThrow(message);
  });

  it('a graph without an output', () => {
    expect(() => new OnnxWriter('empty').encode('1')).toThrow('without an output');
  });
});
