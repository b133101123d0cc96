/**
 * What a head's columns get by their token's position, apart from rotation; and rounding to bfloat16 in the graph, which some of it is defined by.
 *
 * In      `positions` int64 [1, tokens] of the graph
 * Out     nodes
 * Source  transformers modeling_llama4.py (attention temperature), modeling_falcon.py (build_alibi_tensor)
 */
import type { ModelShape } from '../plan/model-shape.js';
import { DATA_TYPE, type OnnxWriter } from './onnx-writer.js';
import type { Step } from './steps.js';

/** [1, tokens, columns] multiplied by 1 + factor · log(1 + floor((position + first) / period)). @param first what the first token's place counts as */
export function growWithPosition(
  graph: OnnxWriter,
  { factor, period }: NonNullable<ModelShape['unrotatedGrowth']>,
  first: 0 | 1,
): Step {
  const one = graph.floats('one', [1], []);
  const floats = graph.node('Cast', ['positions'], ['float-positions'], { to: DATA_TYPE.float32 });
  const places = graph.node('Add', [floats, graph.floats('first-place', [first], [])], ['places']);
  const periods = graph.node('Div', [places, graph.floats('period', [period], [])], ['periods']);
  const whole = graph.node(
    'Add',
    [graph.node('Floor', [periods], ['whole-periods']), one],
    ['periods-and-one'],
  );
  const logarithm = graph.node('Log', [whole], ['log-periods']);
  const grown = graph.node('Mul', [logarithm, graph.floats('growth-factor', [factor], [])], ['growth']);
  const scale = graph.node('Add', [grown, one], ['growth-and-one']);
  const column = graph.node('Unsqueeze', [scale, graph.integers('growth-axis', [2])], ['growth-column']);
  return (x, output) => graph.node('Mul', [x, column], [output]);
}

/** To the nearest, ties to even, as a float32 again. */
export function roundToBfloat16(graph: OnnxWriter, x: string): string {
  const half = graph.node('Cast', [x], [`${x}-bfloat16`], { to: DATA_TYPE.bfloat16 });
  return graph.node('Cast', [half], [`${x}-rounded`], { to: DATA_TYPE.float32 });
}
