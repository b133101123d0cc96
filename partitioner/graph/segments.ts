/**
 * The ONNX graphs of one rank: one a segment of the program, and the two of attention.
 *
 * In      Plan (sizes, offsets, the block's shape as data), rank
 * Out     segment name → bytes of its `.onnx`; weights are external data in `shared.weights` and `rank-R.weights`
 * Limits  activations are float32 and packed, [tokens, columns]; only what rotary embedding touches is [1, tokens, columns]
 * Errors  none: the plan is sound
 * Source  operators: ONNX 24 and ONNX Runtime's contrib operators (reference/onnxruntime.md §2.3–2.5)
 */
import assert from 'node:assert';
import type { TensorEntry } from '../../proto/manifest.js';
import type { Plan } from '../plan.js';
import type { LinearItem, PlanItem } from '../plan-items.js';
import { weightBits } from '../weight-format.js';
import { type Dimension, OnnxWriter } from './onnx-writer.js';

export const SHARED_WEIGHTS = 'shared.weights';
export const rankWeights = (rank: number): string => `rank-${rank}.weights`;

/** MatMulNBits quantises the activations of a block to 8 bits: the fast kernels of x64 and arm64. */
const ACCURACY_LEVEL = 4;

/** One rank's graphs, in the order of the program. */
export function buildSegments(plan: Plan, rank: number, toolVersion: string): Map<string, Uint8Array> {
  const builder = new SegmentBuilder(plan, rank);
  const segments = new Map<string, Uint8Array>();
  const add = (name: string, build: (graph: OnnxWriter) => void): void => {
    const graph = new OnnxWriter(name);
    build(graph);
    segments.set(name, graph.encode(toolVersion));
  };
  add('embed', (graph) => builder.embed(graph));
  for (let layer = 0; layer < plan.shape.numLayers; layer++) {
    add(`layer-${layer}-qkv`, (graph) => builder.qkv(graph, layer));
    add(`layer-${layer}-out`, (graph) => builder.attentionOut(graph, layer));
    add(`layer-${layer}-mlp`, (graph) => builder.mlp(graph, layer));
  }
  add('head', (graph) => builder.head(graph));
  add(plan.attend.segment, (graph) => builder.attend(graph, false));
  add(plan.attend.maskedSegment, (graph) => builder.attend(graph, true));
  return segments;
}

class SegmentBuilder {
  readonly #plan: Plan;
  readonly #rank: number;
  readonly #items: ReadonlyMap<string, PlanItem>;

  constructor(plan: Plan, rank: number) {
    this.#plan = plan;
    this.#rank = rank;
    this.#items = new Map(plan.items.map((item) => [item.name, item]));
  }

  /** ids [tokens] → residual [tokens, hidden] */
  embed(graph: OnnxWriter): void {
    const ids = graph.input('ids', 'int64', ['tokens']);
    const table = this.#weight(graph, 'embedding');
    const isFloat = this.#item('embedding').weight.type === 'float32';
    const rows = graph.node('Gather', [table, ids], [isFloat ? 'residual' : 'rows'], { axis: 0 });
    // 1: FLOAT of TensorProto.DataType
    if (!isFloat) graph.node('Cast', [rows], ['residual'], { to: 1 });
    this.#hiddenOutput(graph, 'residual');
  }

  /** residual (+ sum) → query, key, value [1, tokens, columns] with positions applied, next-residual */
  qkv(graph: OnnxWriter, layer: number): void {
    const { numHeads, numKvHeads, headDim } = this.#plan.perRank;
    const columns = { query: numHeads * headDim, key: numKvHeads * headDim, value: numKvHeads * headDim };
    const residual = this.#hiddenInput(graph, 'residual');
    const sum = layer === 0 ? null : this.#hiddenInput(graph, 'sum');
    const positions = graph.input('positions', 'int64', [1, 'tokens']);
    const normed = this.#norm(graph, `layer-${layer}.attention-norm`, residual, sum, 'next-residual');
    const packed = this.#linear(graph, `layer-${layer}.qkv`, normed, 'packed');
    const batched = graph.node(
      'Reshape',
      [packed, graph.integers('batch-shape', [1, -1, columns.query + columns.key + columns.value])],
      ['batched'],
    );
    const sizes = graph.integers('qkv-sizes', [columns.query, columns.key, columns.value]);
    graph.node('Split', [batched, sizes], ['query-part', 'key-part', 'value'], { axis: 2 });
    for (const [role, heads] of [
      ['query', numHeads],
      ['key', numKvHeads],
    ] as const) {
      const part = this.#headNorm(graph, layer, role, `${role}-part`, heads);
      this.#rotate(graph, part, positions, role, heads);
    }
    for (const role of ['query', 'key', 'value'] as const) {
      graph.output(role, 'float32', [1, 'tokens', columns[role]]);
    }
    if (sum !== null) this.#hiddenOutput(graph, 'next-residual');
  }

  /** attended [tokens, query columns] → partial [tokens, hidden] */
  attentionOut(graph: OnnxWriter, layer: number): void {
    const { numHeads, headDim } = this.#plan.perRank;
    const attended = graph.input('attended', 'float32', ['tokens', numHeads * headDim]);
    this.#linear(graph, `layer-${layer}.attention-out`, attended, 'partial');
    this.#hiddenOutput(graph, 'partial');
  }

  /** residual, sum → partial, next-residual [tokens, hidden]: down(silu(gate(x)) · up(x)) */
  mlp(graph: OnnxWriter, layer: number): void {
    const { ffn } = this.#plan.perRank;
    const residual = this.#hiddenInput(graph, 'residual');
    const sum = this.#hiddenInput(graph, 'sum');
    const normed = this.#norm(graph, `layer-${layer}.mlp-norm`, residual, sum, 'next-residual');
    const packed = this.#linear(graph, `layer-${layer}.gate-up`, normed, 'packed');
    graph.node('Split', [packed, graph.integers('gate-up-sizes', [ffn, ffn])], ['gate', 'up'], { axis: 1 });
    // x · sigmoid(alpha · x) with alpha 1 is SiLU, in one node with a vector kernel.
    graph.node('QuickGelu', ['gate'], ['activated'], { alpha: { float: 1 } }, 'com.microsoft');
    graph.node('Mul', ['activated', 'up'], ['gated']);
    this.#linear(graph, `layer-${layer}.down`, 'gated', 'partial');
    this.#hiddenOutput(graph, 'partial');
    this.#hiddenOutput(graph, 'next-residual');
  }

  /** residual, sum, rows [rows] → logits [rows, vocabulary of this rank] */
  head(graph: OnnxWriter): void {
    this.#hiddenInput(graph, 'residual');
    this.#hiddenInput(graph, 'sum');
    const rows = graph.input('rows', 'int64', ['rows']);
    const residual = graph.node('Gather', ['residual', rows], ['wanted-residual'], { axis: 0 });
    const sum = graph.node('Gather', ['sum', rows], ['wanted-sum'], { axis: 0 });
    const normed = this.#norm(graph, 'final-norm', residual, sum, '');
    this.#linear(graph, 'head', normed, 'logits');
    graph.output('logits', 'float32', ['rows', this.#plan.perRank.vocab]);
  }

  /**
   * query [1, s, …], key and value [1, t, …], length [1] = t (and mask [s, t]) → output [1, s, …]. Without a mask, query i
   * sees keys 0 … t - s + i; a mask says itself what is seen. The scale is in the query's weights.
   */
  attend(graph: OnnxWriter, isMasked: boolean): void {
    const { numHeads, numKvHeads, headDim } = this.#plan.perRank;
    const query = graph.input('query', 'float32', [1, 's', numHeads * headDim]);
    const key = graph.input('key', 'float32', [1, 't', numKvHeads * headDim]);
    const value = graph.input('value', 'float32', [1, 't', numKvHeads * headDim]);
    const length = graph.input('length', 'int64', [1]);
    const mask = isMasked ? graph.input('mask', 'float32', ['s', 't']) : '';
    graph.node('Attention', [query, key, value, mask, '', '', length], ['output'], {
      q_num_heads: numHeads,
      kv_num_heads: numKvHeads,
      scale: { float: 1 },
      is_causal: isMasked ? 0 : 1,
    });
    graph.output('output', 'float32', [1, 's', numHeads * headDim]);
  }

  /** RMS norm of x, or of x + skip, which then becomes the value `sumName` ('' drops it). */
  #norm(graph: OnnxWriter, item: string, x: string, skip: string | null, sumName: string): string {
    const weight = this.#weight(graph, item);
    const epsilon = { float: this.#plan.shape.normEpsilon };
    if (skip === null) {
      return graph.node('SimplifiedLayerNormalization', [x, weight], ['normed'], { epsilon, axis: -1 });
    }
    return graph.node(
      'SkipSimplifiedLayerNormalization',
      [x, skip, weight],
      sumName === '' ? ['normed'] : ['normed', '', '', sumName],
      { epsilon },
      'com.microsoft',
    );
  }

  /** RMS norm of every head by itself, if the model has one. */
  #headNorm(graph: OnnxWriter, layer: number, role: 'query' | 'key', x: string, heads: number): string {
    if (!this.#plan.shape.qkNorm) return x;
    const { headDim } = this.#plan.perRank;
    const byHead = graph.integers(`${role}-heads-shape`, [1, -1, heads, headDim]);
    const flat = graph.integers(`${role}-flat-shape`, [1, -1, heads * headDim]);
    const weight = this.#weight(graph, `layer-${layer}.${role}-norm`);
    graph.node('Reshape', [x, byHead], [`${role}-heads`]);
    graph.node('SimplifiedLayerNormalization', [`${role}-heads`, weight], [`${role}-heads-normed`], {
      epsilon: { float: this.#plan.shape.normEpsilon },
      axis: -1,
    });
    return graph.node('Reshape', [`${role}-heads-normed`, flat], [`${role}-normed`]);
  }

  #rotate(graph: OnnxWriter, x: string, positions: string, output: string, heads: number): void {
    const { rotaryDim } = this.#plan.shape.rope;
    const isPartial = rotaryDim !== this.#plan.perRank.headDim;
    // The tables are declared once a graph, by the first of the two rotations.
    if (output === 'query') for (const table of ['rope.cos', 'rope.sin']) this.#weight(graph, table);
    graph.node(
      'RotaryEmbedding',
      [x, positions, 'rope.cos', 'rope.sin'],
      [output],
      { num_heads: heads, interleaved: 0, ...(isPartial ? { rotary_embedding_dim: rotaryDim } : {}) },
      'com.microsoft',
    );
  }

  /** x [n, inputs] → [n, outputs] */
  #linear(graph: OnnxWriter, name: string, x: string, output: string): string {
    const item = this.#item(name);
    assert(item.kind === 'linear', `${name} is no linear`);
    const weight = this.#store(graph, item.weight);
    const bias = item.bias ? [this.#store(graph, item.bias)] : [];
    if (item.scales === null) return graph.node('Gemm', [x, weight, ...bias], [output], { transB: 1 });
    const scales = this.#store(graph, item.scales);
    const optional = bias.length > 0 ? ['', '', ...bias] : [];
    return graph.node(
      'MatMulNBits',
      [x, weight, scales, ...optional],
      [output],
      this.#matMulNBitsAttributes(item),
      'com.microsoft',
    );
  }

  #matMulNBitsAttributes(item: LinearItem): Record<string, number> {
    assert(item.blockSize !== null, `${item.name} is not quantised`);
    return {
      K: item.inputs,
      N: item.outputs,
      bits: weightBits(this.#plan.format),
      block_size: item.blockSize,
      accuracy_level: ACCURACY_LEVEL,
    };
  }

  #item(name: string): PlanItem {
    const item = this.#items.get(name);
    assert(item, `the plan has no ${name}`);
    return item;
  }

  #weight(graph: OnnxWriter, name: string): string {
    return this.#store(graph, this.#item(name).weight);
  }

  #store(graph: OnnxWriter, entry: TensorEntry): string {
    const location = entry.file === 'shared' ? SHARED_WEIGHTS : rankWeights(this.#rank);
    return graph.weight(entry.name, { ...entry, location });
  }

  #hiddenInput(graph: OnnxWriter, name: string): string {
    return graph.input(name, 'float32', this.#hiddenShape);
  }

  #hiddenOutput(graph: OnnxWriter, name: string): void {
    graph.output(name, 'float32', this.#hiddenShape);
  }

  get #hiddenShape(): Dimension[] {
    return ['tokens', this.#plan.shape.hiddenSize];
  }
}
