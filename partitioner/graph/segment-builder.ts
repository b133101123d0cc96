/**
 * Segments that read and write the residual stream, and the pieces that all segments are made of: norms and linears.
 *
 * In      Plan, rank
 * Out     nodes in the graph that is passed
 * Limits  segments.ts
 */
import assert from 'node:assert';
import type { TensorEntry } from '../../proto/manifest.js';
import { squaresName } from '../importance/squares.js';
import { cachedHeadDim, valueDim } from '../plan/model-shape.js';
import type { Plan } from '../plan/plan.js';
import type { LinearItem, PlanItem } from '../plan/plan-item.js';
import { pieceName } from '../plan/plan-items.js';
import { addAsTree } from './add-as-tree.js';
import { feedForward } from './feed-forward.js';
import { type LatentBuilder, latentValues } from './latent-segments.js';
import { type Dimension, OnnxWriter } from './onnx-writer.js';
import { chain, padHeads, type Step } from './steps.js';
import { rankWeights, SHARED_WEIGHTS } from './weight-files.js';

/** MatMulNBits quantises the activations of a block to 8 bits: the fast kernels of x64 and arm64. */
const ACCURACY_LEVEL = 4;
/** As they are: a GPU's own choice, and that of who asks for more than 8 bits. */
const FLOAT_ACCURACY = 0;

export class SegmentBuilder implements LatentBuilder {
  readonly plan: Plan;
  readonly rank: number;
  readonly #items: ReadonlyMap<string, PlanItem>;

  constructor(plan: Plan, rank: number) {
    this.plan = plan;
    this.rank = rank;
    this.#items = new Map(plan.items.map((item) => [item.name, item]));
  }

  newGraph(name: string): OnnxWriter {
    return new OnnxWriter(name);
  }

  /** ids [tokens] (, positions [1, tokens]) (, kinds [tokens]) → residual [tokens, hidden] */
  embed(graph: OnnxWriter): void {
    const { embeddingScale, names, textKinds } = this.plan.shape;
    const ids = graph.input('ids', 'int64', ['tokens']);
    const table = this.weight(graph, 'embedding');
    const steps: Step[] = [];
    steps.push((_, output) => graph.node('Gather', [table, ids], [output], { axis: 0 }));
    // 1: FLOAT of TensorProto.DataType
    if (this.#item('embedding').weight.type !== 'float32') {
      steps.push((x, output) => graph.node('Cast', [x], [output], { to: 1 }));
    }
    if (names.embeddingIn !== null) {
      const weight = this.weight(graph, 'embedding-in');
      steps.push((x, output) => graph.node('Gemm', [x, weight], [output], { transB: 1 }));
    }
    if (embeddingScale !== 1) {
      const scale = graph.floats('embedding-scale', [embeddingScale], []);
      steps.push((x, output) => graph.node('Mul', [x, scale], [output]));
    }
    if (names.positions !== null) {
      const positions = graph.input('positions', 'int64', [1, 'tokens']);
      const table = this.weight(graph, 'position-table');
      const batch = graph.node('Gather', [table, positions], ['position-batch'], { axis: 0 });
      // Rows are reshaped, not positions: WebGPU's Reshape of int64 loses numbers.
      const flat = graph.integers('position-rows-shape', [-1, this.plan.shape.hiddenSize]);
      const rows = graph.node('Reshape', [batch, flat], ['position-rows']);
      steps.push((x, output) => graph.node('Add', [x, rows], [output]));
    }
    if (names.tokenType !== null) {
      const kinds = this.weight(graph, 'token-type');
      const row =
        textKinds === 1
          ? kinds
          : graph.node('Gather', [kinds, graph.input('kinds', 'int64', ['tokens'])], ['kind-rows'], {
              axis: 0,
            });
      steps.push((x, output) => graph.node('Add', [x, row], [output]));
    }
    if (names.embeddingNorm !== null) {
      steps.push((x, output) => this.norm(graph, 'embedding-norm', x, output));
    }
    chain(steps, '', 'residual');
    this.hiddenOutput(graph, 'residual');
  }

  /** attended [tokens, cached query columns] → partial [tokens, hidden] */
  attentionOut(graph: OnnxWriter, layer: number): void {
    const pieces = this.pieces('partial');
    this.#project(graph, layer, pieces);
    this.#addPieces(graph, pieces, 'partial');
    this.hiddenOutput(graph, 'partial');
  }

  /** residual, sum → partial, next-residual [tokens, hidden] */
  mlp(graph: OnnxWriter, layer: number): void {
    const { mlpNorm } = this.plan.shape.names.layer;
    const normed = this.takeIn(graph, {
      residual: this.hiddenInput(graph, 'residual'),
      sum: this.hiddenInput(graph, 'sum'),
      postNorm: `layer-${layer}.attention-post-norm`,
      preNorm: mlpNorm === null ? null : `layer-${layer}.mlp-norm`,
      stream: 'next-residual',
    });
    const pieces = this.pieces('partial');
    feedForward(this, graph, layer, normed, pieces);
    this.#addPieces(graph, pieces, 'partial');
    this.hiddenOutput(graph, 'partial');
    this.hiddenOutput(graph, 'next-residual');
  }

  /** attended, residual → partial [tokens, hidden]: both branches, added before the ranks' sums are */
  attentionOutAndMlp(graph: OnnxWriter, layer: number): void {
    const { mlpNorm } = this.plan.shape.names.layer;
    const [projected, fed, pieces] = [this.pieces('projected'), this.pieces('fed'), this.pieces('partial')];
    this.#project(graph, layer, projected);
    const residual = this.hiddenInput(graph, 'residual');
    // Without a norm of its own the MLP reads what attention read.
    const norm = `layer-${layer}.${mlpNorm === null ? 'attention-norm' : 'mlp-norm'}`;
    feedForward(this, graph, layer, this.norm(graph, norm, residual, 'normed'), fed);
    // Piece by piece: the additions are a degree's own only above the pieces.
    pieces.forEach((piece, index) => {
      graph.node('Add', [projected[index] ?? '', fed[index] ?? ''], [piece]);
    });
    this.#addPieces(graph, pieces, 'partial');
    this.hiddenOutput(graph, 'partial');
  }

  /** residual, sum, rows [rows] → logits [rows, vocabulary of this rank] */
  head(graph: OnnxWriter): void {
    const { logitSoftCap, names, numLayers } = this.plan.shape;
    this.hiddenInput(graph, 'residual');
    this.hiddenInput(graph, 'sum');
    const rows = graph.input('rows', 'int64', ['rows']);
    const normed = this.takeIn(graph, {
      residual: graph.node('Gather', ['residual', rows], ['wanted-residual'], { axis: 0 }),
      sum: graph.node('Gather', ['sum', rows], ['wanted-sum'], { axis: 0 }),
      postNorm: `layer-${numLayers - 1}.mlp-post-norm`,
      preNorm: names.finalNorm === null ? null : 'final-norm',
      stream: '',
    });
    const steps: Step[] = [];
    if (names.embeddingOut !== null) {
      const weight = this.weight(graph, 'embedding-out');
      steps.push((x, output) => graph.node('Gemm', [x, weight], [output], { transB: 1 }));
    }
    steps.push((x, output) => this.linear(graph, 'head', x, output));
    if (logitSoftCap !== null) {
      const cap = graph.floats('cap', [logitSoftCap], []);
      steps.push((x, output) => graph.node('Div', [x, cap], [output]));
      steps.push((x, output) => graph.node('Tanh', [x], [output]));
      steps.push((x, output) => graph.node('Mul', [x, cap], [output]));
    }
    chain(steps, normed, 'logits');
    graph.output('logits', 'float32', ['rows', this.plan.perRank.vocab]);
  }

  /**
   * Adds the ranks' sum to the residual stream and norms the stream.
   *
   * @param options.sum null: nothing to add (the first layer)
   * @param options.postNorm item of a norm of the sum, or of the new stream (shape.postNormOf), if the plan has one
   * @param options.preNorm item of the norm of the stream; null: the stream is read as it is
   * @param options.stream value that the new stream becomes; '': nobody needs it
   * @returns the normed stream
   */
  takeIn(
    graph: OnnxWriter,
    options: {
      residual: string;
      sum: string | null;
      postNorm: string;
      preNorm: string | null;
      stream: string;
    },
  ): string {
    const { residual, sum, postNorm, preNorm, stream } = options;
    if (sum === null) return preNorm === null ? residual : this.norm(graph, preNorm, residual, 'normed');
    const { norm, postNormOf } = this.plan.shape;
    if (postNormOf === 'stream' && this.#items.has(postNorm)) {
      const whole = graph.node('Add', [residual, sum], ['whole']);
      const normed = this.norm(graph, postNorm, whole, stream === '' ? 'stream' : stream);
      return preNorm === null ? normed : this.norm(graph, preNorm, normed, 'normed');
    }
    const added = this.#items.has(postNorm) ? this.norm(graph, postNorm, sum, 'normed-sum') : sum;
    if (norm.kind === 'rms' && norm.hasWeight && preNorm !== null) {
      return graph.node(
        'SkipSimplifiedLayerNormalization',
        [residual, added, this.weight(graph, preNorm)],
        stream === '' ? ['normed'] : ['normed', '', '', stream],
        { epsilon: { float: norm.epsilon } },
        'com.microsoft',
      );
    }
    // Not SkipLayerNormalization, whose variance is a difference of two sums.
    const whole = graph.node('Add', [residual, added], [stream === '' ? 'stream' : stream]);
    return preNorm === null ? whole : this.norm(graph, preNorm, whole, 'normed');
  }

  /** The model's norm over the last axis. @param item of its weight; its bias has the same name and `.bias` */
  norm(graph: OnnxWriter, item: string, x: string, output: string): string {
    const { norm, hiddenSize } = this.plan.shape;
    const scale = norm.hasWeight
      ? this.weight(graph, item)
      : graph.floats(`${item}.ones`, new Array<number>(hiddenSize).fill(1));
    const bias = norm.hasBias ? [this.weight(graph, `${item}.bias`)] : [];
    return this.normNode(graph, [x, scale, ...bias], output);
  }

  /** @param inputs x, scale (, bias) */
  normNode(graph: OnnxWriter, inputs: readonly string[], output: string): string {
    const { kind, epsilon } = this.plan.shape.norm;
    const type = kind === 'rms' ? 'SimplifiedLayerNormalization' : 'LayerNormalization';
    return graph.node(type, inputs, [output], { epsilon: { float: epsilon }, axis: -1 });
  }

  /** x [n, inputs] → [n, outputs] @param isOfTokens false: its inputs count for nothing in a calibration */
  linear(graph: OnnxWriter, name: string, x: string, output: string, isOfTokens = true): string {
    const item = this.#linearItem(name);
    if (this.plan.tellsSquares && isOfTokens) this.#tellSquares(graph, item, x);
    const weight = this.#store(graph, item.weight);
    const bias = item.bias ? [this.#store(graph, item.bias)] : [];
    if (item.panels !== null) {
      return graph.node('Linear', [x, weight, ...bias], [output], this.#panelAttributes(item), 'shardserve');
    }
    if (item.scales === null) return graph.node('Gemm', [x, weight, ...bias], [output], { transB: 1 });
    const scales = this.#store(graph, item.scales);
    const zeroPoints = item.zeroPoints ? this.#store(graph, item.zeroPoints) : '';
    const optional = bias.length > 0 ? [zeroPoints, '', ...bias] : item.zeroPoints ? [zeroPoints] : [];
    return graph.node(
      'MatMulNBits',
      [x, weight, scales, ...optional],
      [output],
      this.#matMulNBitsAttributes(item),
      'com.microsoft',
    );
  }

  /** Sums over all rows of the squares of its inputs, as an output of the graph. */
  #tellSquares(graph: OnnxWriter, { inputs, name }: LinearItem, x: string): void {
    const output = squaresName(name);
    const flat = graph.integers(`${output}-shape`, [-1, inputs]);
    const rows = graph.node('Reshape', [x, flat], [`${output}-rows`]);
    const squares = graph.node('Mul', [rows, rows], [`${output}-each`]);
    const axis = graph.integers(`${output}-axis`, [0]);
    graph.node('ReduceSum', [squares, axis], [output], { keepdims: 1 });
    graph.output(output, 'float32', [1, inputs]);
  }

  /** A row-parallel linear: each piece of the inputs → a product of its own, [n, outputs], in `outputs` */
  rowLinear(graph: OnnxWriter, name: string, inputs: readonly string[], outputs: readonly string[]): void {
    inputs.forEach((x, index) => {
      this.linear(graph, inputs.length === 1 ? name : pieceName(name, index), x, outputs[index] ?? '');
    });
  }

  /** Names for what there is of each piece of a row-parallel linear; of a single one the name itself. */
  pieces(name: string): string[] {
    const { piecesPerRank } = this.plan;
    return Array.from({ length: piecesPerRank }, (_, index) =>
      piecesPerRank === 1 ? name : pieceName(name, index),
    );
  }

  has(name: string): boolean {
    return this.#items.has(name);
  }

  /** Rows of a linear on this rank. */
  outputs(name: string): number {
    return this.#linearItem(name).outputs;
  }

  weight(graph: OnnxWriter, name: string): string {
    return this.#store(graph, this.#item(name).weight);
  }

  inPanels(name: string): boolean {
    return this.#linearItem(name).panels !== null;
  }

  /** x [n, heads · inputs], each head's by its own panels → [n, heads · outputs] */
  headLinear(graph: OnnxWriter, name: string, x: string, output: string): string {
    const item = this.#linearItem(name);
    const { numHeads } = this.plan.perRank;
    const attributes = {
      ...this.#panelAttributes(item),
      outputs: item.outputs / numHeads,
      groups: numHeads,
    };
    return graph.node('Linear', [x, this.#store(graph, item.weight)], [output], attributes, 'shardserve');
  }

  /** A weight of rows as a stack of matrices. @param dims that it is seen in */
  stack(graph: OnnxWriter, name: string, dims: readonly number[]): string {
    return this.#store(graph, { ...this.#item(name).weight, shape: [...dims] });
  }

  hiddenInput(graph: OnnxWriter, name: string): string {
    return graph.input(name, 'float32', this.#hiddenShape);
  }

  hiddenOutput(graph: OnnxWriter, name: string): void {
    graph.output(name, 'float32', this.#hiddenShape);
  }

  /** The lower part of the tree that the ranks' sums complete. */
  #addPieces(graph: OnnxWriter, pieces: readonly string[], output: string): void {
    if (pieces.length > 1) addAsTree(graph, pieces, output);
  }

  /** attended → its products with the output projection, a piece each */
  #project(graph: OnnxWriter, layer: number, outputs: readonly string[]): void {
    const { headDim, numHeads } = this.plan.perRank;
    const { latent } = this.plan.shape;
    const cached = cachedHeadDim(this.plan.shape);
    const attended = graph.input('attended', 'float32', ['tokens', numHeads * cached]);
    const inputs = this.pieces('attended-columns');
    const steps: Step[] = [];
    if (latent !== null) {
      steps.push(...latentValues(this, graph, layer, latent));
    } else if (cached !== headDim) {
      // Values have nothing in the column that ALiBi added.
      const byHead = graph.integers('attended-by-head', [-1, numHeads, cached]);
      const flat = graph.integers('attended-flat', [-1, numHeads * headDim]);
      const sizes = graph.integers('attended-sizes', [headDim, cached - headDim]);
      steps.push((x, out) => graph.node('Reshape', [x, byHead], [out]));
      steps.push((x, out) => graph.node('Split', [x, sizes], [out, 'rest'], { axis: 2 }));
      steps.push((x, out) => graph.node('Reshape', [x, flat], [out]));
    }
    const name = `layer-${layer}.attention-out`;
    const { padding } = this.#linearItem(this.plan.piecesPerRank === 1 ? name : pieceName(name, 0));
    if (padding !== null) steps.push(...padHeads(graph, numHeads, padding));
    if (inputs.length === 1) {
      steps.push((x, out) => this.linear(graph, name, x, out));
      chain(steps, attended, outputs[0] ?? '');
      return;
    }
    const columns = steps.length === 0 ? attended : 'attended-whole';
    chain(steps, attended, columns);
    const width = (numHeads * (padding?.padded ?? valueDim(this.plan.shape))) / inputs.length;
    const sizes = graph.integers('piece-sizes', new Array<number>(inputs.length).fill(width));
    const [first = '', ...others] = inputs;
    graph.node('Split', [columns, sizes], [first, ...others], { axis: 1 });
    this.rowLinear(graph, name, inputs, outputs);
  }

  #panelAttributes({ inputs, outputs, panels, pieces }: LinearItem): Record<string, number> {
    assert(panels !== null);
    const { bfloat, bits, blockSize, zero } = panels;
    const isWide = blockSize > 0 && this.plan.format.activationBits === 16;
    const flags = { zero: zero ? 1 : 0, bfloat: bfloat ? 1 : 0, ...(isWide && { wide: 1 }) };
    return { bits, block: blockSize, ...flags, inputs, outputs, pieces };
  }

  #matMulNBitsAttributes(item: LinearItem): Record<string, number> {
    assert(item.format !== null, `${item.name} is not quantised`);
    const { deviceClass, format } = this.plan;
    const isRounded = deviceClass === 'cpu' && format.activationBits !== 16;
    return {
      K: item.inputs,
      N: item.outputs,
      bits: item.format.bits,
      block_size: item.format.blockSize,
      accuracy_level: isRounded ? ACCURACY_LEVEL : FLOAT_ACCURACY,
    };
  }

  #linearItem(name: string): LinearItem {
    const item = this.#item(name);
    assert(item.kind === 'linear', `${name} is no linear`);
    return item;
  }

  #item(name: string): PlanItem {
    const item = this.#items.get(name);
    assert(item, `the plan has no ${name}`);
    return item;
  }

  #store(graph: OnnxWriter, entry: TensorEntry): string {
    const location = entry.file === 'shared' ? SHARED_WEIGHTS : rankWeights(this.rank);
    return graph.weight(entry.name, { ...entry, location });
  }

  get #hiddenShape(): Dimension[] {
    return ['tokens', this.plan.shape.hiddenSize];
  }
}
