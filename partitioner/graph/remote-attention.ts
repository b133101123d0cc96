/**
 * Attention on a device with memory of its own: over a slot's buffers of a layer, which are written in place (proto/attend.ts).
 *
 * In      Plan
 * Out     nodes in the graph that is passed
 * Source  ONNX Runtime's GroupQueryAttention: keys and values [1, kvHeads, rows, dim], past and present in one buffer; positions are applied
 *         before, and the scale is in the query's weights. CUDA's has no float32: there it computes in halves, and the cache is of halves
 */
import { cachedHeadDim } from '../plan/model-shape.js';
import type { Plan } from '../plan/plan.js';
import type { OnnxWriter } from './onnx-writer.js';

/** TensorProto.DataType. */
const FLOAT32 = 1;
const FLOAT16 = 10;

const ROLES = ['query', 'key', 'value'] as const;

export class RemoteAttentionSegments {
  readonly #plan: Plan;

  constructor(plan: Plan) {
    this.#plan = plan;
  }

  alone(graph: OnnxWriter, window: number | null): void {
    const columns = this.#columns;
    const inputs = ROLES.map((role) => graph.input(role, 'float32', [1, 's', columns[role]]));
    this.#attend(graph, inputs, 'output', window);
    graph.output('output', 'float32', [1, 's', columns.query]);
    this.#presents(graph);
  }

  packed(graph: OnnxWriter, window: number | null): void {
    const columns = this.#columns;
    const index = graph.input('index', 'int64', ['s']);
    const inputs = ROLES.map((role) => {
      const packed = graph.input(role, 'float32', [1, 'tokens', columns[role]]);
      return graph.node('Gather', [packed, index], [`own-${role}`], { axis: 1 });
    });
    this.#attend(graph, inputs, 'own-output', window);
    const rows = graph.node(
      'Reshape',
      ['own-output', graph.integers('rows-shape', [-1, columns.query])],
      ['rows'],
    );
    const attended = graph.input('attended', 'float32', ['tokens', columns.query]);
    const place = graph.input('place', 'int64', ['s', 1]);
    graph.node('ScatterND', [attended, place, rows], ['output']);
    graph.output('output', 'float32', ['tokens', columns.query]);
    this.#presents(graph);
  }

  copyRows(graph: OnnxWriter): void {
    const dims = ['rows', this.#headDim];
    const type = this.#cacheType;
    const from = graph.input('from', type, dims);
    const to = graph.input('to', type, dims);
    const rows = graph.node('Gather', [from, graph.input('index', 'int64', ['n'])], ['copies'], { axis: 0 });
    graph.node('ScatterND', [to, graph.input('place', 'int64', ['n', 1]), rows], ['copied']);
    graph.output('copied', type, dims);
  }

  #attend(graph: OnnxWriter, inputs: readonly string[], output: string, window: number | null): void {
    const { perRank, shape } = this.#plan;
    const softCap = shape.attentionSoftCap;
    const type = this.#cacheType;
    const isHalf = type === 'float16';
    const own = isHalf
      ? inputs.map((name) => graph.node('Cast', [name], [`half-${name}`], { to: FLOAT16 }))
      : inputs;
    const past = ['past-key', 'past-value'].map((name) => graph.input(name, type, this.#cacheDims));
    const last = graph.input('last', 'int32', [1]);
    const total = graph.input('total', 'int32', [1]);
    graph.node(
      'GroupQueryAttention',
      [...own, ...past, last, total],
      [isHalf ? `half-${output}` : output, 'present-key', 'present-value'],
      {
        num_heads: perRank.numHeads,
        kv_num_heads: perRank.numKvHeads,
        scale: { float: 1 },
        ...(softCap === null ? {} : { softcap: { float: softCap } }),
        ...(window === null ? {} : { local_window_size: window }),
      },
      'com.microsoft',
    );
    if (isHalf) graph.node('Cast', [`half-${output}`], [output], { to: FLOAT32 });
  }

  #presents(graph: OnnxWriter): void {
    for (const name of ['present-key', 'present-value']) graph.output(name, this.#cacheType, this.#cacheDims);
  }

  get #cacheType(): 'float32' | 'float16' {
    return this.#plan.attend.cacheType ?? 'float32';
  }

  get #headDim(): number {
    return cachedHeadDim(this.#plan.shape);
  }

  get #cacheDims(): (number | string)[] {
    return [1, this.#plan.perRank.numKvHeads, 'slot', this.#headDim];
  }

  get #columns(): Record<(typeof ROLES)[number], number> {
    const { numHeads, numKvHeads } = this.#plan.perRank;
    const kvColumns = numKvHeads * this.#headDim;
    return { query: numHeads * this.#headDim, key: kvColumns, value: kvColumns };
  }
}
