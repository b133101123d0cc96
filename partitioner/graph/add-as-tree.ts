/**
 * Adds values in pairs of neighbours, then the pairs, and so on: ((v0 + v1) + (v2 + v3)) + v4. What several ranks or several pieces of
 * one product add is added alike everywhere (shard-worker/collective/tree-sum.ts does it in JavaScript).
 *
 * In      names of values of one shape, at least two
 * Out     Add nodes, the last of which makes `output`
 */
import type { OnnxWriter } from './onnx-writer.js';

export function addAsTree(graph: OnnxWriter, values: readonly string[], output: string): void {
  let level = [...values];
  for (let height = 0; level.length > 1; height++) {
    const isLast = level.length === 2;
    level = level.flatMap((value, index) => {
      if (index % 2 === 1) return [];
      const next = level[index + 1];
      if (next === undefined) return [value];
      const name = isLast ? output : `${output}.sum-${height}-${index / 2}`;
      return [graph.node('Add', [value, next], [name])];
    });
  }
}
