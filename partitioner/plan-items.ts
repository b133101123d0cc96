/**
 * The stored tensors of a plan: which slices of which checkpoint tensors lie where in which file.
 *
 * In      ModelShape, world size, weight format, sizes of one rank
 * Out     items, in the order of a forward pass, and the length of the files
 * Rules   plan.ts
 * Pure
 */
import { ELEMENT_BYTES, type ElementType, type Manifest, type TensorEntry } from '../proto/manifest.js';
import { attentionOutBlock } from './degrees.js';
import { layerName, type ModelShape } from './model-shape.js';
import { type WeightFormat, weightBits } from './weight-format.js';

/** Every stored tensor starts at a multiple of this: a page, so that a mapping of it starts with it. */
export const TENSOR_ALIGNMENT = 4096;

/** A range of rows or columns of a whole tensor; what lies beyond `count` on a rank is zero padding. */
export interface Slice {
  start: number;
  count: number;
}

/** One weight of the checkpoint in a (perhaps fused) linear. */
export interface LinearPart {
  /** Weight [rows, columns] and bias [rows] in the checkpoint. */
  source: string;
  biasSource: string | null;
  rows: number;
  columns: number;
  /** Weights and bias are multiplied by it. */
  factor: number;
  /** Rows of the source that rank r holds. */
  rowSlices: readonly Slice[];
  /** Rows it takes on every rank, padding included. */
  rowsPerRank: number;
}

/** A linear layer: its parts lie below each other as one weight [outputs, inputs] a rank. */
export interface LinearItem {
  kind: 'linear';
  name: string;
  split: 'column' | 'row' | 'vocab';
  parts: readonly LinearPart[];
  /** Columns of the sources that rank r holds: all of them unless split is `row`. */
  columnSlices: readonly Slice[];
  /** Rows and columns on one rank, padding included. */
  outputs: number;
  inputs: number;
  /** Weights a scale; null for fp32. */
  blockSize: number | null;
  weight: TensorEntry;
  scales: TensorEntry | null;
  bias: TensorEntry | null;
}

/** A tensor that is copied whole. */
export interface CopyItem {
  kind: 'copy';
  name: string;
  source: string;
  factor: number;
  weight: TensorEntry;
}

/** One of the two rotary tables. */
export interface RopeItem {
  kind: 'rope';
  name: 'rope.cos' | 'rope.sin';
  weight: TensorEntry;
}

export type PlanItem = LinearItem | CopyItem | RopeItem;

/** Sizes of one rank, padding included. */
export type RankSizes = Manifest['perRank'] & { ffn: number };

/** What rank r holds of `total` when every rank takes `perRank`: the last ones may hold less, or nothing. */
function evenSlices(total: number, perRank: number, worldSize: number): Slice[] {
  return Array.from({ length: worldSize }, (_, rank) => {
    const start = Math.min(total, rank * perRank);
    return { start, count: Math.min(perRank, total - start) };
  });
}

interface LinearOptions {
  split: LinearItem['split'];
  parts: LinearPart[];
  columnSlices: Slice[];
  inputs: number;
  blockSize: number | null;
}

/** Lays the items out one after another. */
export class ItemPlanner {
  readonly bytes = { shared: 0, rank: 0 };
  readonly #shape: ModelShape;
  readonly #worldSize: number;
  readonly #format: WeightFormat;
  readonly #perRank: RankSizes;

  constructor(shape: ModelShape, worldSize: number, format: WeightFormat, perRank: RankSizes) {
    this.#shape = shape;
    this.#worldSize = worldSize;
    this.#format = format;
    this.#perRank = perRank;
  }

  items(embeddingType: ElementType): PlanItem[] {
    const { names, vocabSize, hiddenSize, contextLength, numLayers } = this.#shape;
    const items: PlanItem[] = [
      this.#copy('embedding', names.embedding, embeddingType, [vocabSize, hiddenSize]),
    ];
    for (const name of ['rope.cos', 'rope.sin'] as const) {
      const size = [contextLength, this.#shape.rope.rotaryDim / 2];
      const weight = this.#store(name, 'shared', 'float32', size, 'replicated', []);
      items.push({ kind: 'rope', name, weight });
    }
    for (let layer = 0; layer < numLayers; layer++) items.push(...this.#layer(layer));
    items.push(this.#norm('final-norm', names.finalNorm, hiddenSize), this.#head());
    return items;
  }

  #layer(layer: number): PlanItem[] {
    const { hiddenSize, headDim, qkNorm, names } = this.#shape;
    const name = (role: string): string => `layer-${layer}.${role}`;
    const source = (role: keyof typeof names.layer): string => layerName(names.layer[role], layer);
    const items: PlanItem[] = [
      this.#norm(name('attention-norm'), source('attentionNorm'), hiddenSize),
      this.#qkv(layer),
    ];
    if (qkNorm) {
      items.push(
        this.#norm(name('query-norm'), source('queryNorm'), headDim, queryFactor(this.#shape)),
        this.#norm(name('key-norm'), source('keyNorm'), headDim),
      );
    }
    items.push(
      this.#attentionOut(layer),
      this.#norm(name('mlp-norm'), source('mlpNorm'), hiddenSize),
      this.#gateUp(layer),
      this.#down(layer),
    );
    return items;
  }

  #qkv(layer: number): LinearItem {
    const { numHeads, numKvHeads, headDim, names, biases, qkNorm } = this.#shape;
    const part = (stem: string, heads: number, headsPerRank: number, factor: number): LinearPart => ({
      ...this.#part(layerName(stem, layer), heads * headDim, this.#shape.hiddenSize, biases.qkv),
      factor,
      rowsPerRank: headsPerRank * headDim,
      // Heads fewer than ranks are held by several: rank r takes head floor(r · heads / worldSize).
      rowSlices: Array.from({ length: this.#worldSize }, (_, rank) => ({
        start: Math.floor((rank * heads) / this.#worldSize) * headDim,
        count: headsPerRank * headDim,
      })),
    });
    const parts = [
      part(names.layer.query, numHeads, this.#perRank.numHeads, qkNorm ? 1 : queryFactor(this.#shape)),
      part(names.layer.key, numKvHeads, this.#perRank.numKvHeads, 1),
      part(names.layer.value, numKvHeads, this.#perRank.numKvHeads, 1),
    ];
    return this.#columnLinear(`layer-${layer}.qkv`, 'column', parts);
  }

  #gateUp(layer: number): LinearItem {
    const { names, ffnSize, hiddenSize, biases } = this.#shape;
    const parts = [names.layer.gate, names.layer.up].map((stem) => ({
      ...this.#part(layerName(stem, layer), ffnSize, hiddenSize, biases.mlp),
      rowSlices: evenSlices(ffnSize, this.#perRank.ffn, this.#worldSize),
      rowsPerRank: this.#perRank.ffn,
    }));
    return this.#columnLinear(`layer-${layer}.gate-up`, 'column', parts);
  }

  #head(): LinearItem {
    const { names, vocabSize, hiddenSize, tiedHead } = this.#shape;
    const part: LinearPart = {
      ...this.#part(names.head, vocabSize, hiddenSize, false),
      ...(tiedHead ? { source: names.embedding } : {}),
      rowSlices: evenSlices(vocabSize, this.#perRank.vocab, this.#worldSize),
      rowsPerRank: this.#perRank.vocab,
    };
    return this.#columnLinear('head', 'vocab', [part]);
  }

  #attentionOut(layer: number): LinearItem {
    const { names, numHeads, headDim, biases } = this.#shape;
    const inputs = this.#perRank.numHeads * headDim;
    return this.#rowLinear(
      `layer-${layer}.attention-out`,
      layerName(names.layer.attentionOut, layer),
      numHeads * headDim,
      inputs,
      biases.attentionOut,
      attentionOutBlock(this.#shape, this.#format),
    );
  }

  #down(layer: number): LinearItem {
    const { names, ffnSize, biases } = this.#shape;
    const stem = layerName(names.layer.down, layer);
    const { ffn } = this.#perRank;
    return this.#rowLinear(`layer-${layer}.down`, stem, ffnSize, ffn, biases.mlp, this.#format.blockSize);
  }

  #columnLinear(name: string, split: 'column' | 'vocab', parts: LinearPart[]): LinearItem {
    const inputs = this.#shape.hiddenSize;
    const columnSlices = new Array<Slice>(this.#worldSize).fill({ start: 0, count: inputs });
    return this.#linear(name, { split, parts, columnSlices, inputs, blockSize: this.#format.blockSize });
  }

  #rowLinear(
    name: string,
    stem: string,
    columns: number,
    inputs: number,
    bias: boolean,
    blockSize: number | null,
  ): LinearItem {
    const rows = this.#shape.hiddenSize;
    const parts = [this.#part(stem, rows, columns, bias)];
    const columnSlices = evenSlices(columns, inputs, this.#worldSize);
    return this.#linear(name, { split: 'row', parts, columnSlices, inputs, blockSize });
  }

  /** A weight that every rank holds all rows of. */
  #part(stem: string, rows: number, columns: number, bias: boolean): LinearPart {
    return {
      source: `${stem}.weight`,
      biasSource: bias ? `${stem}.bias` : null,
      rows,
      columns,
      factor: 1,
      rowSlices: new Array<Slice>(this.#worldSize).fill({ start: 0, count: rows }),
      rowsPerRank: rows,
    };
  }

  #linear(name: string, options: LinearOptions): LinearItem {
    const { split, parts, inputs, blockSize } = options;
    const outputs = parts.reduce((sum, part) => sum + part.rowsPerRank, 0);
    const sources = parts.map((part) => part.source);
    const biasSources = parts.flatMap((part) => part.biasSource ?? []);
    const isQuantised = blockSize !== null;
    const blocks = isQuantised ? Math.ceil(inputs / blockSize) : 0;
    const blockBytes = ((blockSize ?? 0) * weightBits(this.#format)) / 8;
    const weight = isQuantised
      ? this.#store(`${name}.weight`, 'rank', 'uint8', [outputs, blocks, blockBytes], split, sources)
      : this.#store(`${name}.weight`, 'rank', 'float32', [outputs, inputs], split, sources);
    const scales = isQuantised
      ? this.#store(`${name}.scales`, 'rank', 'float32', [outputs, blocks], split, sources)
      : null;
    const biasSplit = split === 'row' ? 'rank-0' : split;
    const bias =
      biasSources.length > 0
        ? this.#store(`${name}.bias`, 'rank', 'float32', [outputs], biasSplit, biasSources)
        : null;
    return { kind: 'linear', name, outputs, weight, scales, bias, ...options };
  }

  #norm(name: string, source: string, size: number, factor = 1): CopyItem {
    return { ...this.#copy(name, source, 'float32', [size]), factor };
  }

  #copy(name: string, source: string, type: ElementType, size: readonly number[]): CopyItem {
    const weight = this.#store(name, 'shared', type, size, 'replicated', [source]);
    return { kind: 'copy', name, source, factor: 1, weight };
  }

  /** The next place in a file. */
  #store(
    name: string,
    file: TensorEntry['file'],
    type: ElementType,
    size: readonly number[],
    split: TensorEntry['split'],
    sources: string[],
  ): TensorEntry {
    const offset = Math.ceil(this.bytes[file] / TENSOR_ALIGNMENT) * TENSOR_ALIGNMENT;
    const bytes = size.reduce((product, axis) => product * axis, 1) * ELEMENT_BYTES[type];
    this.bytes[file] = offset + bytes;
    return { name, file, type, shape: [...size], offset, bytes, split, sources };
  }
}

/** The attend segment runs with scale 1, which has the faster kernel; so the query carries the scale. */
export function queryFactor(shape: ModelShape): number {
  return 1 / Math.sqrt(shape.headDim);
}
