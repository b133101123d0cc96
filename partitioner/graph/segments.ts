/**
 * The ONNX graphs of one rank: one a segment of the program, those of attention, and the sum over ranks.
 *
 * In      Plan (sizes, offsets, the block's shape as data), rank
 * Out     segment name → bytes of its `.onnx`; weights are external data in `shared.weights` and `rank-R.weights`
 * Limits  activations are float32 and packed, [tokens, columns]; only what rotary embedding touches is [1, tokens, columns]
 * Errors  none: the plan is sound
 * Source  operators: ONNX 24 and ONNX Runtime's contrib operators (ContribOperators.md of 1.30)
 */
import type { Plan } from '../plan/plan.js';
import { addAsTree } from './add-as-tree.js';
import { AttentionSegments } from './attention-segments.js';
import { distanceVectors } from './distance-scores.js';
import type { OnnxWriter } from './onnx-writer.js';
import { RemoteAttentionSegments } from './remote-attention.js';
import { SegmentBuilder } from './segment-builder.js';
import { lastHidden, vector } from './vector-segments.js';

/** rank-0, rank-1, … [values] → their sum, added as a tree */
function sumOverRanks(graph: OnnxWriter, worldSize: number): void {
  const summands = Array.from({ length: worldSize }, (_, rank) =>
    graph.input(`rank-${rank}`, 'float32', ['values']),
  );
  addAsTree(graph, summands, 'sum');
  graph.output('sum', 'float32', ['values']);
}

/** One rank's graphs, in the order of the program. */
export function buildSegments(plan: Plan, rank: number, toolVersion: string): Map<string, Uint8Array> {
  const builder = new SegmentBuilder(plan, rank);
  const attention = new AttentionSegments(builder);
  const segments = new Map<string, Uint8Array>();
  const add = (name: string, fill: (graph: OnnxWriter) => void): void => {
    const graph = builder.newGraph(name);
    fill(graph);
    segments.set(name, graph.encode(toolVersion));
  };
  add('embed', (graph) => builder.embed(graph));
  for (let layer = 0; layer < plan.shape.numLayers; layer++) {
    add(`layer-${layer}-qkv`, (graph) => attention.qkv(graph, layer));
    if (plan.shape.residual === 'parallel') {
      add(`layer-${layer}-out-mlp`, (graph) => builder.attentionOutAndMlp(graph, layer));
    } else {
      add(`layer-${layer}-out`, (graph) => builder.attentionOut(graph, layer));
      add(`layer-${layer}-mlp`, (graph) => builder.mlp(graph, layer));
    }
  }
  if (plan.shape.embedding === null) {
    add('head', (graph) => builder.head(graph));
  } else {
    add('hidden', (graph) => lastHidden(builder, graph));
    add('vector', (graph) => vector(builder, graph));
  }
  if (plan.shape.distances !== null) {
    for (let layer = 0; layer < plan.shape.numLayers; layer++) {
      add(`distances-${layer}`, (graph) => distanceVectors(builder, graph, layer));
    }
  }
  const remote = new RemoteAttentionSegments(plan);
  for (const { segment, when } of plan.attend.variants) {
    const { queries, window = null } = when;
    add(segment, (graph) => {
      if (queries === 'token') attention.attendToken(graph);
      else if (queries === 'alone') remote.alone(graph, window);
      else if (queries === 'packed') remote.packed(graph, window);
      else attention.attend(graph, queries === 'masked-chunk');
    });
  }
  if (plan.attend.copyRows !== undefined) add(plan.attend.copyRows, (graph) => remote.copyRows(graph));
  if (plan.sumSegment !== null) add(plan.sumSegment, (graph) => sumOverRanks(graph, plan.worldSize));
  return segments;
}
