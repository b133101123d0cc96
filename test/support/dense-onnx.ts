/** A small ONNX model, and what it answers. */
import { OnnxWriter } from '../../partitioner/graph/onnx-writer.js';

const WEIGHT = [0.5, -1, 2, 0.25, 3, -0.125];
const BIAS = [0.1, -0.2];

/** x [n, 3] → y [n, 2] = relu(x · W + b) */
export function denseModel(): Uint8Array {
  const graph = new OnnxWriter('dense');
  const x = graph.input('x', 'float32', ['n', 3]);
  const product = graph.node(
    'Gemm',
    [x, graph.floats('w', WEIGHT, [3, 2]), graph.floats('b', BIAS)],
    ['product'],
  );
  graph.node('Relu', [product], ['y']);
  graph.output('y', 'float32', ['n', 2]);
  return graph.encode('test');
}

export const dense = (rows: readonly (readonly number[])[]): number[][] =>
  rows.map((row) =>
    BIAS.map((bias, column) =>
      Math.max(
        0,
        row.reduce((sum, value, index) => sum + value * WEIGHT[index * 2 + column]!, bias),
      ),
    ),
  );
