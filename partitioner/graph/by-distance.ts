/**
 * What a table has for each pair of a query and a key of a whole text, by how far apart they are.
 *
 * In      what stands for each distance, and the longest text
 * Out     nodes; `text-size` int64 [1], the text's length, is there besides
 */
import type { OnnxWriter } from './onnx-writer.js';

/**
 * @param entryOf of a key that is so far behind its query (before it: below 0)
 * @returns int64 [s, s] by the length of `query`
 */
export function byDistance(
  graph: OnnxWriter,
  contextLength: number,
  entryOf: (apart: number) => number,
): string {
  const entries = Array.from({ length: 2 * contextLength - 1 }, (_, at) => entryOf(at - (contextLength - 1)));
  const size = graph.node('Shape', ['query'], ['text-size'], { start: 1, end: 2 });
  const length = graph.node('Squeeze', [size], ['text-length']);
  const [zero, one] = [graph.integers('zero', [0], []), graph.integers('one', [1], [])];
  const places = graph.node('Range', [zero, length, one], ['places']);
  const asColumn = graph.node('Unsqueeze', [places, graph.integers('last-axis', [1])], ['query-places']);
  const apart = graph.node('Sub', [places, asColumn], ['apart']);
  const most = graph.integers('most-apart', [contextLength - 1], []);
  const shifted = graph.node('Add', [apart, most], ['shifted']);
  const table = graph.integers('by-distance', entries);
  return graph.node('Gather', [table, shifted], ['by-place'], { axis: 0 });
}
