/**
 * T5's bias by distance: what a score gains by how far apart query and key are.
 *
 * In      the rank's heads' table [buckets, heads]
 * Out     nodes that make the bias of a whole text
 * Source  transformers modeling_mpnet.py
 */
import type { RelativeBiasShape } from '../plan/model-shape.js';
import { byDistance } from './by-distance.js';
import type { OnnxWriter } from './onnx-writer.js';

/**
 * Bucket of a key that is so far behind its query (before it: below 0): half of them for either side, of these half a distance each,
 * the others by logarithm. In float32, which decides at borders.
 */
export function bucketOf(apart: number, { buckets, maxDistance }: RelativeBiasShape): number {
  const side = buckets / 2;
  const exact = Math.floor(side / 2);
  const distance = Math.abs(apart);
  const first = apart > 0 ? side : 0;
  if (distance < exact) return first + distance;
  const logarithm = Math.fround(Math.log(Math.fround(distance / exact)));
  const share = Math.fround(Math.fround(logarithm / Math.log(maxDistance / exact)) * (side - exact));
  return first + Math.min(exact + Math.trunc(share), side - 1);
}

/** @returns [1, heads, s, s], by the length of `query` */
export function relativeBias(
  graph: OnnxWriter,
  table: string,
  shape: RelativeBiasShape,
  contextLength: number,
): string {
  const buckets = byDistance(graph, contextLength, (apart) => bucketOf(apart, shape));
  graph.node('Gather', [table, buckets], ['bias-by-place'], { axis: 0 });
  const byHead = graph.node('Transpose', ['bias-by-place'], ['bias-by-head'], { perm: [2, 0, 1] });
  return graph.node('Unsqueeze', [byHead, graph.integers('batch-axis', [0])], ['bias']);
}
