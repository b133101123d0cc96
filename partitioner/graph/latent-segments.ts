/**
 * Multi-head latent attention (DeepSeek V2 and V3): around attention, where keys and values of all heads are made of one latent a token.
 *
 * In      LatentBuilder, LatentShape
 * Out     nodes in the graph that is passed
 * How     what makes keys of latents is joined with the queries, what makes values with what attention gives: a query is compared with
 *         latents, and attention adds latents, which each head then turns into its values. So the cache is one row a token, whatever
 *         the number of heads: the normed latent and behind it what all heads' keys have of positions. A value is its key; its
 *         last columns are added up with the others, and dropped.
 *         Two matrices a head, [latent, plain] and [value, latent], are multiplied by our own kernels, in the model's format (8 bits at
 *         least), or are read as stacks of float32 where these are not, or a head's rows are no whole panels.
 * Limits  segments.ts
 * Source  DeepSeek-AI 2024 (arXiv 2405.04434, 2.1); transformers modeling_deepseek_v2.py, modeling_deepseek_v3.py
 */

import assert from 'node:assert';
import { cachedHeadDim, type LatentShape } from '../plan/model-shape.js';
import { growWithPosition } from './by-position.js';
import type { LinearBuilder } from './feed-forward.js';
import type { OnnxWriter } from './onnx-writer.js';
import { rotate } from './rotate.js';
import type { Step } from './steps.js';

/** What of a segment's builder latents need. */
export interface LatentBuilder extends LinearBuilder {
  /** A weight of rows as a stack of matrices. */
  stack(graph: OnnxWriter, name: string, dims: readonly number[]): string;
  /** Whether a weight lies as our own kernels read it. */
  inPanels(name: string): boolean;
  /** x [n, heads · inputs] → [n, heads · outputs] */
  headLinear(graph: OnnxWriter, name: string, x: string, output: string): string;
}

/** normed stream [tokens, hidden] → query [1, tokens, heads · cached], key [1, tokens, cached] */
export function latentQkv(
  builder: LatentBuilder,
  graph: OnnxWriter,
  layer: number,
  latent: LatentShape,
  normed: string,
): void {
  const { perRank, shape } = builder.plan;
  const { plainDim, queryGrowth, queryRank, rank } = latent;
  const { numHeads: heads } = perRank;
  const rotated = shape.headDim - rank;
  const cached = cachedHeadDim(shape);
  assert(cached === shape.headDim, 'latents have no further columns');
  const norm = (role: string, x: string): string => {
    const weight = builder.weight(graph, `layer-${layer}.${role}-norm`);
    return graph.node('SimplifiedLayerNormalization', [x, weight], [`${role}-normed`], {
      epsilon: { float: latent.epsilon },
      axis: -1,
    });
  };
  const latents = builder.linear(graph, `layer-${layer}.latents`, normed, 'latents');
  const parts = [...(queryRank === null ? [] : ['query-latent']), 'latent', 'key-turned'];
  const sizes = [...(queryRank === null ? [] : [queryRank]), rank, rotated];
  const [first = '', ...others] = parts;
  graph.node('Split', [latents, graph.integers('latent-sizes', sizes)], [first, ...others], { axis: 1 });

  const asked = queryRank === null ? normed : norm('query-down', 'query-latent');
  const queries = builder.linear(graph, `layer-${layer}.query`, asked, 'query-columns');
  const byHead = graph.node(
    'Reshape',
    [queries, graph.integers('query-heads', [-1, heads, plainDim + rotated])],
    ['query-by-head'],
  );
  graph.node('Split', [byHead, graph.integers('query-sizes', [plainDim, rotated])], ['plain', 'turned'], {
    axis: 2,
  });
  const compared = byHeads(builder, graph, `layer-${layer}.key-up`, 'plain', plainDim, rank);
  const turned = turn(builder, graph, layer, 'turned', heads, rotated);
  const turnedHeads = graph.node(
    'Reshape',
    [turned, graph.integers('turned-heads', [-1, heads, rotated])],
    ['turned-by-head'],
  );
  graph.node('Concat', [compared, turnedHeads], ['query-joined'], { axis: 2 });
  const flat = graph.integers('query-shape', [1, -1, heads * cached]);
  if (queryGrowth === null) graph.node('Reshape', ['query-joined', flat], ['query']);
  else {
    const ungrown = graph.node('Reshape', ['query-joined', flat], ['query-ungrown']);
    growWithPosition(graph, queryGrowth, 0)(ungrown, 'query');
  }
  graph.output('query', 'float32', [1, 'tokens', heads * cached]);

  const kept = norm('key-value-down', 'latent');
  const keptBatch = graph.node(
    'Reshape',
    [kept, graph.integers('latent-shape', [1, -1, rank])],
    ['latent-batch'],
  );
  const keyTurned = turn(builder, graph, layer, 'key-turned', 1, rotated);
  graph.node('Concat', [keptBatch, keyTurned], ['key'], { axis: 2 });
  graph.output('key', 'float32', [1, 'tokens', cached]);
}

/** attended [tokens, heads · cached] → values of each head [tokens, heads · value] */
export function latentValues(
  builder: LatentBuilder,
  graph: OnnxWriter,
  layer: number,
  { rank, valueDim }: LatentShape,
): Step[] {
  const { perRank, shape } = builder.plan;
  const { numHeads: heads } = perRank;
  const byHead = graph.integers('attended-by-head', [-1, heads, shape.headDim]);
  const sizes = graph.integers('attended-sizes', [rank, shape.headDim - rank]);
  const flat = graph.integers('values-flat', [-1, heads * valueDim]);
  return [
    (x, out) => graph.node('Reshape', [x, byHead], [out]),
    (x, out) => graph.node('Split', [x, sizes], [out, 'attended-rest'], { axis: 2 }),
    (x) => byHeads(builder, graph, `layer-${layer}.value-up`, x, rank, valueDim),
    (x, out) => graph.node('Reshape', [x, flat], [out]),
  ];
}

/** x [tokens, heads, inputs] → [tokens, heads, outputs]: each head's by its own matrix. */
function byHeads(
  builder: LatentBuilder,
  graph: OnnxWriter,
  linear: string,
  x: string,
  inputs: number,
  outputs: number,
): string {
  const { numHeads: heads } = builder.plan.perRank;
  const made = `${linear}-made`;
  if (builder.inPanels(linear)) {
    const shape = graph.integers(`${linear}-shape`, [-1, heads * inputs]);
    const columns = graph.node('Reshape', [x, shape], [`${linear}-columns`]);
    const flat = builder.headLinear(graph, linear, columns, `${linear}-flat`);
    return graph.node('Reshape', [flat, graph.integers(`${linear}-heads`, [-1, heads, outputs])], [made]);
  }
  const stack = builder.stack(graph, linear, [heads, outputs, inputs]);
  const byHead = graph.node('Transpose', [x], [`${linear}-by-head`], { perm: [1, 0, 2] });
  graph.node('FusedMatMul', [byHead, stack], [made], { transB: 1 }, 'com.microsoft');
  return graph.node('Transpose', [made], [`${linear}-rows`], { perm: [1, 0, 2] });
}

/** x, of heads · columns a token → [1, tokens, heads · columns], each head rotated whole */
function turn(
  builder: LatentBuilder,
  graph: OnnxWriter,
  layer: number,
  x: string,
  heads: number,
  columns: number,
): string {
  const { layerRopes, queryRope, ropes } = builder.plan.shape;
  const own = layerRopes[layer] ?? 0;
  const rope = x === 'turned' ? (queryRope ?? own) : own;
  const batch = graph.integers(`${x}-shape`, [1, -1, heads * columns]);
  const flat = graph.node('Reshape', [x, batch], [`${x}-batch`]);
  return rotate(graph, flat, `${x}-rotated`, { rope, ropes, heads, rotaryDim: null });
}
