/**
 * Segments around attention: from the residual stream to queries, keys and values; and attention itself.
 *
 * In      SegmentBuilder (plan, rank, norms and linears)
 * Out     nodes in the graph that is passed
 * Limits  segments.ts
 *
 * ALiBi  a query and a key of a head have one more column than the model says: the key's is its position, the query's the
 *        head's slope, so that their product is what ALiBi adds; the value's is 0. The cache is as wide.
 * Sinks  likewise: the query's further column is the head's sink, the key's is 0. The worker puts a row before all others
 *        whose key is 1 there and 0 elsewhere and whose value is 0 (proto/manifest.ts): its score is the sink.
 */

import assert from 'node:assert';
import {
  attentionNormOf,
  cachedHeadDim,
  hasHeadNorm,
  needsPositions,
  sinkColumn,
} from '../plan/model-shape.js';
import { ropeName } from '../plan/plan-items.js';
import { headSlices } from '../plan/rank-slices.js';
import { roundToBfloat } from '../quantise/half.js';
import { growWithPosition, roundToBfloat16 } from './by-position.js';
import { distanceScores } from './distance-scores.js';
import { latentQkv } from './latent-segments.js';
import { type Attribute, DATA_TYPE, type OnnxWriter } from './onnx-writer.js';
import { relativeBias } from './relative-bias.js';
import { rotate } from './rotate.js';
import type { SegmentBuilder } from './segment-builder.js';
import { chain, type Step } from './steps.js';

type Role = 'query' | 'key' | 'value';

/** Heads of a role: those that the segment computes, and of these the ones that the rank keeps. */
interface Heads {
  computed: number;
  first: number;
  /** The rank's own. */
  own: number;
  /** The own ones, and zeros where other ranks have more. */
  kept: number;
  /** In the whole model. */
  total: number;
}

export class AttentionSegments {
  readonly #builder: SegmentBuilder;

  constructor(builder: SegmentBuilder) {
    this.#builder = builder;
  }

  /** residual (, sum) (, positions) → query, key, value [1, tokens, columns] with positions applied (, next-residual) */
  qkv(graph: OnnxWriter, layer: number): void {
    const { shape } = this.#builder.plan;
    const { headDim } = shape;
    const normed = this.#builder.takeIn(graph, {
      residual: this.#builder.hiddenInput(graph, 'residual'),
      sum: layer === 0 ? null : this.#builder.hiddenInput(graph, 'sum'),
      postNorm: `layer-${layer - 1}.mlp-post-norm`,
      preNorm: attentionNormOf(shape, layer) === null ? null : `layer-${layer}.attention-norm`,
      stream: 'next-residual',
    });
    const rope = shape.layerRopes[layer] ?? null;
    if (needsPositions(shape, layer)) graph.input('positions', 'int64', [1, 'tokens']);
    if (rope !== null) {
      for (const table of new Set([rope, shape.queryRope ?? rope])) {
        for (const part of ['cos', 'sin'] as const) this.#builder.weight(graph, ropeName(table, part));
      }
    }
    if (layer > 0) this.#builder.hiddenOutput(graph, 'next-residual');
    if (shape.latent !== null) {
      latentQkv(this.#builder, graph, layer, shape.latent, normed);
      return;
    }
    const packed = this.#builder.linear(graph, `layer-${layer}.qkv`, normed, 'packed');
    const roles: Role[] = ['query', 'key', 'value'];
    const sizes = roles.map((role) => this.#heads(role).computed * headDim);
    const columns = sizes.reduce((sum, size) => sum + size, 0);
    const batched = graph.node(
      'Reshape',
      [packed, graph.integers('batch-shape', [1, -1, columns])],
      ['batched'],
    );
    const steps = roles.map((role) => this.#steps(graph, layer, role));
    const parts = roles.map((role, index) => ((steps[index]?.length ?? 0) > 0 ? `${role}-part` : role));
    const [first = '', ...others] = parts;
    graph.node('Split', [batched, graph.integers('qkv-sizes', sizes)], [first, ...others], { axis: 2 });
    roles.forEach((role, index) => {
      chain(steps[index] ?? [], parts[index] ?? '', role);
      const width = this.#heads(role).kept * cachedHeadDim(shape);
      graph.output(role, 'float32', [1, 'tokens', width]);
    });
  }

  /**
   * query [1, s, …], key-H and value-H [1, t, …] of each KV head, length [1] ≤ t (and mask [s, t]) → output [1, s, …]. Without a
   * mask, query i sees keys 0 … length - s + i; a mask says itself what is seen. The scale is in the query's weights.
   *
   * Bidirectional attention reads the step's own rows: key and value are of all KV heads, and all keys are seen, or those that a
   * mask says. A bias by distance is made here: query and keys are whole texts then.
   */
  attend(graph: OnnxWriter, isMasked: boolean): void {
    const { perRank, shape } = this.#builder.plan;
    const { numHeads, numKvHeads } = perRank;
    const headDim = cachedHeadDim(shape);
    const columns = numHeads * headDim;
    const isByHead = shape.attention !== 'bidirectional';
    const query = graph.input('query', 'float32', [1, 's', columns]);
    const planes = isByHead
      ? Array.from({ length: numKvHeads }, (_, head) => this.#plane(graph, head))
      : [this.#keysAndValues(graph, ['key', 'value'], numKvHeads * headDim)];
    const length = graph.input('length', 'int64', [1]);
    const mask = isMasked ? graph.input('mask', 'float32', ['s', 't']) : this.#bias(graph);
    const parts = (role: string, whole: string): string[] =>
      planes.length === 1 ? [whole] : planes.map((_, head) => `${role}-part-${head}`);
    const queries = parts('query', query);
    const outputs = parts('output', 'output');
    const [first = '', ...others] = queries;
    if (planes.length > 1) {
      const sizes = queries.map(() => columns / planes.length);
      graph.node('Split', [query, graph.integers('query-sizes', sizes)], [first, ...others], { axis: 2 });
    }
    planes.forEach(([key, value], part) => {
      graph.node(
        'Attention',
        [queries[part] ?? '', key, value, mask, '', '', length],
        [outputs[part] ?? ''],
        this.#attentionAttributes(numHeads / planes.length, isByHead ? 1 : numKvHeads, isByHead && !isMasked),
      );
    });
    if (planes.length > 1) graph.node('Concat', outputs, ['output'], { axis: 2 });
    graph.output('output', 'float32', [1, 's', columns]);
  }

  /**
   * One token's heads by KV head: query-H [1, heads, …], key-H and value-H [1, t, …], length [1] ≤ t → output-H. Heads that share
   * keys stand where queries do, as one matrix: the keys are read once.
   */
  attendToken(graph: OnnxWriter): void {
    const { perRank, shape } = this.#builder.plan;
    const dims = [1, perRank.numHeads / perRank.numKvHeads, cachedHeadDim(shape)];
    const length = graph.input('length', 'int64', [1]);
    for (let head = 0; head < perRank.numKvHeads; head++) {
      const query = graph.input(`query-${head}`, 'float32', dims);
      const [key, value] = this.#plane(graph, head);
      const output = graph.node(
        'Attention',
        [query, key, value, '', '', '', length],
        [`output-${head}`],
        this.#attentionAttributes(1, 1, false),
      );
      graph.output(output, 'float32', dims);
    }
  }

  /** What is added to the scores of a whole text; '': nothing. */
  #bias(graph: OnnxWriter): string {
    const { contextLength, distances, relativeBias: shape } = this.#builder.plan.shape;
    if (distances !== null) return distanceScores(this.#builder, graph);
    if (shape === null) return '';
    const table = this.#builder.weight(graph, 'relative-bias');
    const { kept, total } = this.#heads('query');
    const own = kept === total ? table : this.#ownHeads(graph, 'query', 1, 1, 2)(table, 'own-bias');
    return relativeBias(graph, own, shape, contextLength);
  }

  /** Keys and values of one KV head. */
  #plane(graph: OnnxWriter, head: number): [string, string] {
    return this.#keysAndValues(
      graph,
      [`key-${head}`, `value-${head}`],
      cachedHeadDim(this.#builder.plan.shape),
    );
  }

  #keysAndValues(graph: OnnxWriter, [key, value]: [string, string], columns: number): [string, string] {
    const dims = [1, 't', columns];
    return [graph.input(key, 'float32', dims), graph.input(value, 'float32', dims)];
  }

  #attentionAttributes(queryHeads: number, kvHeads: number, isCausal: boolean): Record<string, Attribute> {
    const { attentionSoftCap } = this.#builder.plan.shape;
    return {
      q_num_heads: queryHeads,
      kv_num_heads: kvHeads,
      scale: { float: 1 },
      is_causal: isCausal ? 1 : 0,
      ...(attentionSoftCap === null ? {} : { softcap: { float: attentionSoftCap } }),
    };
  }

  #heads(role: Role): Heads {
    const { shape, perRank, worldSize } = this.#builder.plan;
    const total = role === 'query' ? shape.numHeads : shape.numKvHeads;
    const kept = role === 'query' ? perRank.numHeads : perRank.numKvHeads;
    const slices = headSlices(shape.numHeads, shape.numKvHeads, worldSize)?.[this.#builder.rank];
    assert(slices, 'degrees.ts refuses a rank without heads');
    const { start: first, count: own } = role === 'query' ? slices.query : slices.kv;
    const isWhole = shape.headNorm === 'whole' && role !== 'value';
    return { total, first, own, kept, computed: isWhole ? total : kept };
  }

  /** What is done to a role's columns, [1, tokens, …], between its projection and attention. */
  #steps(graph: OnnxWriter, layer: number, role: Role): Step[] {
    const { shape } = this.#builder.plan;
    const steps: Step[] = [];
    if (shape.qkvClip !== null) steps.push(this.#clip(graph, layer, role, shape.qkvClip));
    if (role !== 'value') {
      const norm = this.#headNorm(graph, layer, role);
      const rope = shape.layerRopes[layer] ?? null;
      const own = role === 'query' ? (shape.queryRope ?? rope) : rope;
      const rotation = rope === null || own === null ? [] : [this.#rotate(graph, role, own)];
      steps.push(...(shape.headNormAfterRotation ? [...rotation, ...norm] : [...norm, ...rotation]));
      if (role === 'query' && rope === null && shape.unrotatedGrowth !== null) {
        steps.push(growWithPosition(graph, shape.unrotatedGrowth, 1));
      }
    }
    steps.push(...this.#furtherColumns(graph, layer, role));
    return steps;
  }

  /** The query is cut at a limit that is scaled as it is. */
  #clip(graph: OnnxWriter, layer: number, role: Role, limit: number): Step {
    const { shape } = this.#builder.plan;
    const isScaled = role === 'query' && !hasHeadNorm(shape, layer);
    const factor = isScaled ? (shape.queryScales[layer] ?? 1) : 1;
    const least = graph.floats(`${role}-least`, [-limit * factor], []);
    const most = graph.floats(`${role}-most`, [limit * factor], []);
    return (x, output) => graph.node('Clip', [x, least, most], [output]);
  }

  #headNorm(graph: OnnxWriter, layer: number, role: 'query' | 'key'): Step[] {
    const { shape } = this.#builder.plan;
    const { headNorm, headDim } = shape;
    const { computed, kept, total } = this.#heads(role);
    if (!hasHeadNorm(shape, layer)) return [];
    const weight =
      headNorm === 'unit'
        ? this.#unitScales(graph, layer, role)
        : this.#builder.weight(graph, `layer-${layer}.${role}-norm`);
    if (headNorm === 'whole') {
      return [
        (x, output) => this.#builder.normNode(graph, [x, weight], output),
        ...(kept === total ? [] : [this.#ownHeads(graph, role, headDim, 2, 3)]),
      ];
    }
    const byHead = graph.integers(`${role}-heads-shape`, [1, -1, computed, headDim]);
    const flat = graph.integers(`${role}-flat-shape`, [1, -1, computed * headDim]);
    const open: Step = (x, output) => graph.node('Reshape', [x, byHead], [output]);
    const close: Step = (x, output) => graph.node('Reshape', [x, flat], [output]);
    if (headNorm === 'per-head' || headNorm === 'unit') {
      return [open, (x, output) => this.#builder.normNode(graph, [x, weight], output), close];
    }
    const ones = graph.floats(`${role}-ones`, new Array<number>(headDim).fill(1));
    const scales = kept === total ? weight : this.#ownHeads(graph, role, 1, 0, 2)(weight, `${role}-scales`);
    return [
      open,
      (x, output) => this.#builder.normNode(graph, [x, ones], output),
      (x, output) => graph.node('Mul', [x, scales], [output]),
      close,
    ];
  }

  /** The scale of scores is all the scale that there is. */
  #unitScales(graph: OnnxWriter, layer: number, role: 'query' | 'key'): string {
    const { headDim, queryScales } = this.#builder.plan.shape;
    const scale = role === 'query' ? (queryScales[layer] ?? 1) : 1;
    return graph.floats(`${role}-unit-scale`, new Array<number>(headDim).fill(scale));
  }

  /**
   * The rank's heads of something of all heads, with zeros where other ranks have more.
   *
   * @param width of a head along the axis
   * @param rank number of axes
   */
  #ownHeads(graph: OnnxWriter, role: Role, width: number, axis: number, rank: number): Step {
    const { first, own, kept } = this.#heads(role);
    const starts = graph.integers(`${role}-slice-start`, [first * width]);
    const ends = graph.integers(`${role}-slice-end`, [(first + own) * width]);
    const axes = graph.integers(`${role}-slice-axis`, [axis]);
    if (own === kept) return (x, output) => graph.node('Slice', [x, starts, ends, axes], [output]);
    const behind = Array.from({ length: 2 * rank }, (_, at) =>
      at === rank + axis ? (kept - own) * width : 0,
    );
    const zeros = graph.integers(`${role}-missing-heads`, behind);
    return (x, output) => {
      const slice = graph.node('Slice', [x, starts, ends, axes], [`${output}.own`]);
      return graph.node('Pad', [slice, zeros], [output]);
    };
  }

  #rotate(graph: OnnxWriter, role: Role, rope: number): Step {
    const { ropes, headDim } = this.#builder.plan.shape;
    const own = ropes[rope]?.rotaryDim ?? headDim;
    const rotaryDim = own === headDim ? null : own;
    return (x, output) => rotate(graph, x, output, { rope, ropes, heads: this.#heads(role).kept, rotaryDim });
  }

  /** Further columns of a head: 0, then position or slope, or the sink, added. */
  #furtherColumns(graph: OnnxWriter, layer: number, role: Role): Step[] {
    const { shape } = this.#builder.plan;
    const width = cachedHeadDim(shape);
    if (width === shape.headDim) return [];
    const { kept } = this.#heads(role);
    const byHead = graph.integers(`${role}-heads-shape`, [1, -1, kept, shape.headDim]);
    const flat = graph.integers(`${role}-flat-shape`, [1, -1, kept * width]);
    const padding = graph.integers(`${role}-padding`, [0, 0, 0, 0, 0, 0, 0, width - shape.headDim]);
    const added = [
      ...(shape.alibiSlopes === null ? [] : this.#alibi(graph, layer, role, shape.alibiSlopes)),
      ...(sinkColumn(shape) !== null && role === 'query' ? [this.#sinks(graph, layer)] : []),
    ];
    return [
      (x, output) => graph.node('Reshape', [x, byHead], [output]),
      (x, output) => graph.node('Pad', [x, padding], [output]),
      ...added.map(
        (value): Step =>
          (x, output) =>
            graph.node('Add', [x, value], [output]),
      ),
      (x, output) => graph.node('Reshape', [x, flat], [output]),
    ];
  }

  /** What is added to [1, tokens, kept, width]: every query's slope, or every key's position; where it is rounded, their product to the key. */
  #alibi(graph: OnnxWriter, layer: number, role: Role, slopes: readonly number[]): string[] {
    const { shape } = this.#builder.plan;
    const { alibiRounded, headDim, queryScales } = shape;
    const { first, kept, own } = this.#heads(role);
    const width = cachedHeadDim(shape);
    const inColumn = (value: number): number[] =>
      Array.from({ length: width }, (_, column) => (column === headDim ? value : 0));
    if (role === 'value') return [];
    const ofHeads = [...slopes.slice(first, first + own), ...new Array<number>(kept - own).fill(0)];
    if (role === 'query') {
      const factors = alibiRounded ? ofHeads.map(() => queryScales[layer] ?? 1) : ofHeads;
      return [graph.floats('slopes', factors.flatMap(inColumn), [1, 1, kept, width])];
    }
    const positions = graph.node('Cast', ['positions'], ['float-positions'], { to: DATA_TYPE.float32 });
    const shaped = graph.node(
      'Reshape',
      [positions, graph.integers('position-shape', [1, -1, 1, 1])],
      ['column-positions'],
    );
    const unit = graph.floats('position-column', inColumn(1), [1, 1, 1, width]);
    if (!alibiRounded) return [graph.node('Mul', [shaped, unit], ['added-positions'])];
    const rounded = graph.floats('rounded-slopes', ofHeads.map(roundToBfloat), [1, 1, kept, 1]);
    const product = graph.node('Mul', [roundToBfloat16(graph, shaped), rounded], ['position-by-slope']);
    return [graph.node('Mul', [roundToBfloat16(graph, product), unit], ['added-products'])];
  }

  /** The rank's sinks in their column of [1, 1, kept, width]. */
  #sinks(graph: OnnxWriter, layer: number): string {
    const { shape } = this.#builder.plan;
    const { kept, total } = this.#heads('query');
    const all = this.#builder.weight(graph, `layer-${layer}.sinks`);
    const own = kept === total ? all : this.#ownHeads(graph, 'query', 1, 0, 1)(all, 'own-sinks');
    const column = graph.integers('sink-shape', [1, 1, kept, 1]);
    const shaped = graph.node('Reshape', [own, column], ['sink-column']);
    const before = sinkColumn(shape) ?? 0;
    return graph.node(
      'Pad',
      [shaped, graph.integers('sink-padding', [0, 0, 0, before, 0, 0, 0, 0])],
      ['added-sinks'],
    );
  }
}
