/**
 * Nodes one behind the other, each of what the one before made.
 *
 * In      steps, the first one's input
 * Out     nodes in the graph that is passed
 */
import type { Padding } from '../plan/degrees.js';
import type { OnnxWriter } from './onnx-writer.js';

/** Makes `output` of `x`; returns its name. */
export type Step = (x: string, output: string) => string;

/** One step after the other, the last one making `output`. */
export function chain(steps: readonly Step[], x: string, output: string): void {
  steps.reduce((value, step, index) => {
    const isLast = index === steps.length - 1;
    return step(value, isLast ? output : `${output}.${index}`);
  }, x);
}

/** Each head's columns get zeros behind them. */
export function padHeads(graph: OnnxWriter, heads: number, { padded, width }: Padding): Step[] {
  const byHead = graph.integers('heads-to-pad', [-1, heads, width]);
  const zeros = graph.integers('head-padding', [0, 0, 0, 0, 0, padded - width]);
  const flat = graph.integers('padded-heads', [-1, heads * padded]);
  return [
    (x, out) => graph.node('Reshape', [x, byHead], [out]),
    (x, out) => graph.node('Pad', [x, zeros], [out]),
    (x, out) => graph.node('Reshape', [x, flat], [out]),
  ];
}
