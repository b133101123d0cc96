/**
 * Disentangled attention (DeBERTa): what a score gains by query and distance, and by distance and key.
 *
 * In      SegmentBuilder, DistancesShape
 * Out     a segment a layer that makes queries and keys of distances, once; nodes that make a whole text's bias of them
 * Limits  as many KV heads as heads
 * Source  He et al. 2021; transformers modeling_deberta_v2.py (make_log_bucket_position, disentangled_attention_bias), in float32
 */
import assert from 'node:assert';
import type { DistancesShape } from '../plan/model-shape.js';
import { byDistance } from './by-distance.js';
import type { OnnxWriter } from './onnx-writer.js';
import type { SegmentBuilder } from './segment-builder.js';

const round = Math.fround;

/** Row of a query that is so far behind its key (before it: below 0). */
export function distanceRow(apart: number, { maxDistance, span }: DistancesShape): number {
  return Math.min(2 * span - 1, Math.max(0, bucketOf(apart, span, maxDistance) + span));
}

function bucketOf(apart: number, span: number, maxDistance: number | null): number {
  const middle = Math.floor(span / 2);
  const distance = Math.abs(apart);
  if (maxDistance === null || distance <= middle) return apart;
  const most = round(Math.log(round((maxDistance - 1) / middle)));
  const share = round(round(Math.log(round(distance / middle))) / most);
  return Math.sign(apart) * (Math.ceil(round(share * (middle - 1))) + middle);
}

/** → distance-query and distance-key [2 · span, heads · dim], by the layer's own linears */
export function distanceVectors(builder: SegmentBuilder, graph: OnnxWriter, layer: number): void {
  const { perRank, shape } = builder.plan;
  assert(shape.distances && shape.numHeads === shape.numKvHeads, 'a head has a key of its own');
  const table = builder.weight(graph, 'distances');
  const rows = shape.distances.isNormed ? builder.norm(graph, 'distances-norm', table, 'normed') : table;
  const packed = builder.linear(graph, `layer-${layer}.qkv`, rows, 'packed', false);
  const columns = perRank.numHeads * shape.headDim;
  graph.node(
    'Split',
    [packed, graph.integers('sizes', [columns, columns, columns])],
    ['distance-query', 'distance-key', 'rest'],
    { axis: 1 },
  );
  for (const name of ['distance-query', 'distance-key']) {
    graph.output(name, 'float32', [2 * shape.distances.span, columns]);
  }
}

/** query and key [1, s, heads · dim], both tables → [1, heads, s, s], added to the scores of a whole text */
export function distanceScores(builder: SegmentBuilder, graph: OnnxWriter): string {
  const { perRank, shape } = builder.plan;
  const { numHeads: heads } = perRank;
  const { contextLength, distances, headDim } = shape;
  assert(distances);
  const rows = 2 * distances.span;
  const tables = ['distance-query', 'distance-key'].map((name) =>
    graph.input(name, 'float32', [rows, heads * headDim]),
  );
  const [distanceQuery = '', distanceKey = ''] = tables;
  const byHead = graph.integers('by-head', [-1, heads, headDim]);
  const planes = (x: string): string => {
    const shaped = graph.node('Reshape', [x, byHead], [`${x}-shaped`]);
    return graph.node('Transpose', [shaped], [`${x}-planes`], { perm: [1, 0, 2] });
  };
  const product = (a: string, b: string, name: string): string =>
    graph.node('FusedMatMul', [planes(a), planes(b)], [name], { transB: 1 }, 'com.microsoft');
  const index = rowsByPlace(graph, distances, contextLength, heads);
  const scores: string[] = [];
  if (distances.queryMeetsDistance) {
    const all = product('query', distanceKey, 'query-by-distance');
    scores.push(graph.node('GatherElements', [all, index], ['query-scores'], { axis: 2 }));
  }
  if (distances.distanceMeetsKey) {
    // A key's row is that of its own distance, the other way round.
    const all = product('key', distanceQuery, 'key-by-distance');
    const turned = graph.node('Transpose', [index], ['turned-index'], { perm: [0, 2, 1] });
    const own = graph.node('GatherElements', [all, turned], ['key-scores-turned'], { axis: 2 });
    scores.push(graph.node('Transpose', [own], ['key-scores'], { perm: [0, 2, 1] }));
  }
  const [first = '', second] = scores;
  const sum = second === undefined ? first : graph.node('Add', [first, second], ['distance-scores']);
  return graph.node('Unsqueeze', [sum, graph.integers('batch-axis', [0])], ['bias']);
}

/** int64 [heads, s, s]: the table's row for query and key, by the length of `query` */
function rowsByPlace(graph: OnnxWriter, shape: DistancesShape, contextLength: number, heads: number): string {
  const found = byDistance(graph, contextLength, (apart) => distanceRow(-apart, shape));
  const whole = graph.node(
    'Concat',
    [graph.integers('heads', [heads]), 'text-size', 'text-size'],
    ['index-shape'],
    {
      axis: 0,
    },
  );
  return graph.node('Expand', [found, whole], ['index']);
}
