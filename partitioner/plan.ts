/**
 * The plan: which rank holds which part of which tensor, where it lies, and what a step runs.
 *
 * In      ModelShape, world size, weight format, the embedding's stored type
 * Out     Plan: items (stored tensors with slices a rank), file sizes, sizes per rank, buffers and program
 * Limits  MAX_WORLD_SIZE ranks
 * Errors  ServingError TENSOR_PARALLEL_INVALID with the degrees that work (degrees.ts)
 * Pure    no file is read: `--plan-only` needs config.json alone
 *
 * Rules   q, k, v, gate, up: column-parallel (rows of the [out, in] weight). o, down: row-parallel (its columns), bias on rank 0.
 *         Head: vocab-parallel. Embedding, norms, rope tables: whole, once, in the shared file.
 *         ffn is padded with zeros to world size × block, the vocabulary to world size × 16; both are exact.
 *         Quantised tensors are quantised whole, then cut on block borders, so that every degree has the same model.
 *         1/sqrt(headDim) is folded into the query: into its weight and bias, or into its norm's weight where it has one.
 * Source  design.md D6; Megatron-LM (Shoeybi et al. 2019) for which side is cut
 */
import type { ElementType, Manifest, TensorEntry } from '../proto/manifest.js';
import { ELEMENT_BYTES } from '../proto/manifest.js';
import { attentionOutBlock, checkDegree } from './degrees.js';
import { planBuffers, planProgram } from './graph/program.js';
import { countParameters, layerName, type ModelShape } from './model-shape.js';
import { columnUnit, type WeightFormat, weightBits } from './weight-format.js';

/** Every stored tensor starts at a multiple of this: a page, so that a mapping of it starts with it. */
export const TENSOR_ALIGNMENT = 4096;

/** A rank's rows of the head are padded to a multiple of this. */
const VOCAB_UNIT = 16;

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

export interface Plan {
  shape: ModelShape;
  worldSize: number;
  format: WeightFormat;
  parameters: number;
  perRank: Manifest['perRank'] & { ffn: number };
  /** In the order they are written. */
  items: readonly PlanItem[];
  sharedBytes: number;
  /** Weights file of one rank; all ranks' are equally long. */
  rankBytes: number;
  kvBytesPerTokenPerRank: number;
  buffers: Manifest['buffers'];
  program: Manifest['program'];
  attend: Manifest['attend'];
  io: Manifest['io'];
}

export interface PlanOptions {
  shape: ModelShape;
  worldSize: number;
  format: WeightFormat;
  /** Stored type of the embedding: it is kept. */
  embeddingType: ElementType;
}

/** @throws ServingError TENSOR_PARALLEL_INVALID */
export function makePlan({ shape, worldSize, format, embeddingType }: PlanOptions): Plan {
  checkDegree(shape, format, worldSize);
  const perRank = {
    numHeads: shape.numHeads / worldSize,
    numKvHeads: Math.max(1, shape.numKvHeads / worldSize),
    headDim: shape.headDim,
    vocab: perRankPadded(shape.vocabSize, worldSize, VOCAB_UNIT),
    ffn: perRankPadded(shape.ffnSize, worldSize, columnUnit(format)),
  };
  const planner = new ItemPlanner(shape, worldSize, format, perRank);
  const items = planner.items(embeddingType);
  return {
    shape,
    worldSize,
    format,
    parameters: countParameters(shape),
    perRank,
    items,
    sharedBytes: planner.bytes.shared,
    rankBytes: planner.bytes.rank,
    kvBytesPerTokenPerRank: 2 * shape.numLayers * perRank.numKvHeads * shape.headDim * 4,
    ...planBuffers(shape, worldSize, perRank),
    ...planProgram(shape, worldSize),
  };
}

/** All stored tensors of a plan, for the manifest. */
export function storedTensors(plan: Plan): TensorEntry[] {
  return plan.items.flatMap((item) =>
    item.kind === 'linear'
      ? [item.weight, item.scales, item.bias].filter((entry) => entry !== null)
      : [item.weight],
  );
}

/** `total` cut evenly over the ranks in multiples of `unit`, rounded up. */
function perRankPadded(total: number, worldSize: number, unit: number): number {
  return Math.ceil(total / (worldSize * unit)) * unit;
}

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
class ItemPlanner {
  readonly bytes = { shared: 0, rank: 0 };
  readonly #shape: ModelShape;
  readonly #worldSize: number;
  readonly #format: WeightFormat;
  readonly #perRank: Plan['perRank'];

  constructor(shape: ModelShape, worldSize: number, format: WeightFormat, perRank: Plan['perRank']) {
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
