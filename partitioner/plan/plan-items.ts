/**
 * The stored tensors of a plan: which slices of which checkpoint tensors lie where in which file.
 *
 * In      ModelShape, world size, weight format, sizes of one rank
 * Out     items, in the order of a forward pass, and the length of the files
 * Rules   plan.ts
 * Pure
 */
import assert from 'node:assert';
import { ELEMENT_BYTES, type ElementType, type Manifest, type TensorEntry } from '../../proto/manifest.js';
import { ropeRows } from '../architectures/rope-table.js';
import { blockBytes, blocksPerRow, zeroPointBytes } from '../quantise/block-quantise.js';
import type { CodedTensors } from '../quantise/coded-format.js';
import { PANEL_OUTPUTS, panelBytes, panelCount } from '../quantise/panels.js';
import { codesOf, linearFormat, panelFormat, type WeightFormat } from '../quantise/weight-format.js';
import { attentionOutBlock, attentionOutPadding, isEvenDegree, type Padding } from './degrees.js';
import { hasExperts, hasHeadNorm, type LatentShape, type ModelShape, valueDim } from './model-shape.js';
import type { CopyItem, LinearItem, LinearPart, PlanItem } from './plan-item.js';
import { evenSlices, type HeadSlices, headSlices, type Slice } from './rank-slices.js';
import {
  ACTIVATION_PARTS,
  activationRole,
  type RoleTensor,
  roleTensors,
  vectorRole,
} from './role-tensors.js';
import { downBlock, ffnPerRank, piecesPerRank, sumsItself } from './sum-pieces.js';

/** Every stored tensor starts at a multiple of this: a page, so that a mapping of it starts with it. */
export const TENSOR_ALIGNMENT = 4096;

/** Name of a row-parallel linear's piece. */
export const pieceName = (linear: string, index: number): string => `${linear}.piece-${index}`;

/** Name of a rotary table's item. @param index in ModelShape.ropes */
export const ropeName = (index: number, part: 'cos' | 'sin'): string =>
  `rope${index === 0 ? '' : `-${index}`}.${part}`;

/** Sizes of one rank, padding included. */
export type RankSizes = Manifest['perRank'];

interface LinearOptions {
  split: LinearItem['split'];
  piece: LinearItem['piece'];
  parts: LinearPart[];
  columnSlices: Slice[];
  inputs: number;
  /** The quantised linear's. */
  blockSize: number | null;
  pieces: number;
  padding: Padding | null;
  /** Rows of floats, in every format. */
  isPlain: boolean;
}

/** Lays the items out one after another. */
export class ItemPlanner {
  readonly bytes = { shared: 0, rank: 0 };
  readonly #coded: CodedTensors;
  readonly #shape: ModelShape;
  readonly #worldSize: number;
  readonly #format: WeightFormat;
  readonly #perRank: RankSizes;
  readonly #roles: ReadonlyMap<string, RoleTensor>;

  constructor(
    shape: ModelShape,
    worldSize: number,
    format: WeightFormat,
    perRank: RankSizes,
    coded: CodedTensors,
  ) {
    this.#coded = coded;
    this.#shape = shape;
    this.#worldSize = worldSize;
    this.#format = format;
    this.#perRank = perRank;
    this.#roles = new Map(roleTensors(shape).map((tensor) => [tensor.role, tensor]));
  }

  items(embeddingType: ElementType): PlanItem[] {
    const { contextLength, numLayers, ropes } = this.#shape;
    const items: PlanItem[] = [this.#copy('embedding', this.#role('embedding.weight'), embeddingType)];
    const beside = ['position-table', 'token-type', 'embedding-norm', 'relative-bias', 'distances'];
    for (const role of ['embedding-in', ...beside, 'distances-norm'])
      items.push(...this.#optionalCopies(role));
    ropes.forEach((rope, index) => {
      for (const part of ['cos', 'sin'] as const) {
        const name = ropeName(index, part);
        const size = [ropeRows(rope, contextLength), rope.rotaryDim / 2];
        items.push({
          kind: 'rope',
          name,
          rope,
          part,
          weight: this.#store(name, 'shared', 'float32', size, 'replicated', []),
        });
      }
    });
    for (let layer = 0; layer < numLayers; layer++) items.push(...this.#layer(layer));
    items.push(...this.#optionalCopies('final-norm'));
    // Small, and wanted once a text: every rank computes all of them.
    this.#shape.embedding?.steps.forEach((_, index) => {
      items.push(...this.#optionalCopies(vectorRole(index)));
    });
    items.push(...this.#optionalCopies('embedding-out'));
    if (this.#shape.names.head !== null) items.push(this.#head());
    return items;
  }

  #layer(layer: number): PlanItem[] {
    const name = (role: string): string => `layer-${layer}.${role}`;
    return [
      ...this.#optionalCopies(name('attention-norm')),
      ...(this.#shape.latent === null ? [this.#qkv(layer)] : this.#latents(layer, this.#shape.latent)),
      ...this.#optionalCopies(name('query-norm'), this.#shape.queryScales[layer]),
      ...this.#optionalCopies(name('key-norm')),
      ...this.#optionalCopies(name('sinks')),
      ...this.#attentionOut(layer),
      ...this.#optionalCopies(name('attention-post-norm')),
      ...this.#optionalCopies(name('mlp-norm')),
      ...Object.keys(ACTIVATION_PARTS).flatMap((part) => this.#optionalCopies(activationRole(layer, part))),
      ...this.#feedForward(layer),
      ...this.#optionalCopies(name('mlp-post-norm')),
    ];
  }

  #qkv(layer: number): LinearItem {
    const { numHeads, numKvHeads, headDim, headNorm, queryScales } = this.#shape;
    const part = (
      role: 'query' | 'key' | 'value',
      heads: number,
      headsPerRank: number,
      isWhole: boolean,
      factor: number,
    ): LinearPart => ({
      ...this.#part(`layer-${layer}.${role}`),
      factor,
      rowsPerRank: (isWhole ? heads : headsPerRank) * headDim,
      rowSlices: isWhole
        ? new Array<Slice>(this.#worldSize).fill({ start: 0, count: heads * headDim })
        : this.#heads(role === 'query' ? 'query' : 'kv', headDim),
    });
    // A norm over all heads needs all heads: every rank computes them.
    const isWhole = headNorm === 'whole';
    const factor = hasHeadNorm(this.#shape, layer) ? 1 : (queryScales[layer] ?? 1);
    const parts = [
      part('query', numHeads, this.#perRank.numHeads, isWhole, factor),
      part('key', numKvHeads, this.#perRank.numKvHeads, isWhole, 1),
      part('value', numKvHeads, this.#perRank.numKvHeads, false, 1),
    ];
    return this.#columnLinear(`layer-${layer}.qkv`, 'column', parts);
  }

  /**
   * Every rank makes the latents, and of them its heads' queries. What is joined with queries and with what attention makes is a
   * matrix for each head: whole panels each for our own kernels, or a stack of floats.
   */
  #latents(layer: number, { plainDim, queryRank, rank, valueDim: values }: LatentShape): PlanItem[] {
    const { headDim, hiddenSize, queryScales } = this.#shape;
    const name = (role: string): string => `layer-${layer}.${role}`;
    const byHead = (role: string, rows: number, factor = 1): LinearPart => ({
      ...this.#part(name(role)),
      factor,
      rowsPerRank: this.#perRank.numHeads * rows,
      rowSlices: this.#heads('query', rows),
    });
    const downs = [...(queryRank === null ? [] : ['query-down']), 'key-value-down'];
    const query = byHead('query', plainDim + headDim - rank, queryScales[layer] ?? 1);
    return [
      this.#columnLinear(
        name('latents'),
        'column',
        downs.map((role) => this.#part(name(role))),
      ),
      ...downs.flatMap((role) => this.#optionalCopies(name(`${role}-norm`))),
      this.#columnLinear(name('query'), 'column', [query], queryRank ?? hiddenSize),
      this.#columnLinear(name('key-up'), 'column', [byHead('key-up', rank)], plainDim, !this.#inPanels(rank)),
      this.#columnLinear(
        name('value-up'),
        'column',
        [byHead('value-up', values)],
        rank,
        !this.#inPanels(values),
      ),
    ];
  }

  /** Whether each head's outputs are whole panels. */
  #inPanels(outputs: number): boolean {
    return this.#format.layout === 'panels' && outputs % PANEL_OUTPUTS === 0;
  }

  /** The MLP; or the router, the experts and what they share. */
  #feedForward(layer: number): PlanItem[] {
    const { experts, ffnSize } = this.#shape;
    const role = `layer-${layer}`;
    if (experts === null || !hasExperts(this.#shape, layer)) return this.#mlp(role, ffnSize);
    return [
      ...['router', 'router-choice'].flatMap((router) => this.#optionalCopies(`${role}.${router}`)),
      ...Array.from({ length: experts.count }, (_, expert) =>
        this.#mlp(`${role}.expert-${expert}`, experts.ffnSize),
      ).flat(),
      ...this.#optionalCopies(`${role}.shared-router`),
      ...(experts.sharedFfnSize === null ? [] : this.#mlp(`${role}.shared`, experts.sharedFfnSize)),
    ];
  }

  /** Gate above up, or up alone; and down. */
  #mlp(role: string, ffnSize: number): PlanItem[] {
    const isGated = this.#roles.has(`${role}.gate.weight`);
    const block = downBlock(this.#shape, this.#format, ffnSize, isGated);
    const perRank = ffnPerRank(this.#shape, this.#format, this.#worldSize, ffnSize, block);
    const parts = (isGated ? ['gate', 'up'] : ['up']).map((part) => ({
      ...this.#part(`${role}.${part}`),
      rowSlices: evenSlices(ffnSize, perRank, this.#worldSize),
      rowsPerRank: perRank,
    }));
    return [
      this.#columnLinear(`${role}.${isGated ? 'gate-up' : 'up'}`, 'column', parts),
      ...this.#rowLinear(`${role}.down`, perRank, block),
    ];
  }

  #head(): LinearItem {
    const part: LinearPart = {
      ...this.#part('head'),
      rowSlices: evenSlices(this.#shape.vocabSize, this.#perRank.vocab, this.#worldSize),
      rowsPerRank: this.#perRank.vocab,
    };
    return this.#columnLinear('head', 'vocab', [part], this.#shape.embeddingSize);
  }

  #attentionOut(layer: number): LinearItem[] {
    const padding = attentionOutPadding(this.#shape, this.#format);
    const width = padding?.padded ?? valueDim(this.#shape);
    return this.#rowLinear(
      `layer-${layer}.attention-out`,
      this.#perRank.numHeads * width,
      attentionOutBlock(this.#shape, this.#format),
      padding,
      isEvenDegree(this.#shape, this.#worldSize) ? undefined : this.#heads('query', width),
    );
  }

  /** What each rank holds of something that has `width` rows or columns a head. */
  #heads(role: keyof HeadSlices, width: number): Slice[] {
    const { numHeads, numKvHeads } = this.#shape;
    const heads = headSlices(numHeads, numKvHeads, this.#worldSize);
    assert(heads, 'degrees.ts refuses a rank without heads');
    return heads.map(({ [role]: { start, count } }) => ({ start: start * width, count: count * width }));
  }

  #columnLinear(
    name: string,
    split: 'column' | 'vocab',
    parts: LinearPart[],
    inputs = this.#shape.hiddenSize,
    isPlain = false,
  ): LinearItem {
    const columnSlices = new Array<Slice>(this.#worldSize).fill({ start: 0, count: inputs });
    const blockSize = isPlain ? null : this.#format.blockSize;
    return this.#linear(name, {
      ...{ split, piece: null, parts, columnSlices, inputs, blockSize, pieces: 1, padding: null, isPlain },
    });
  }

  /**
   * @param inputs of a rank: one piece, or several side by side
   * @param uneven columns of each rank, where they are not equally many: there are no pieces then
   */
  #rowLinear(
    name: string,
    inputs: number,
    blockSize: number | null,
    padding: Padding | null = null,
    uneven?: readonly Slice[],
  ): LinearItem[] {
    const held = piecesPerRank(this.#shape, this.#format, this.#worldSize);
    const of = sumsItself(this.#shape, this.#format) ? 1 : held;
    const part = this.#part(name);
    const columns = padding === null ? part.columns : (part.columns / padding.width) * padding.padded;
    assert(uneven === undefined || of === 1, `${name} is cut into pieces at an uneven degree`);
    const slices = uneven ?? evenSlices(columns, inputs / of, this.#worldSize * of);
    return Array.from({ length: of }, (_, index) =>
      this.#linear(name, {
        split: 'row',
        piece: of === 1 ? null : { index, of },
        // Added once.
        parts: [index === 0 ? part : { ...part, biasSource: null }],
        columnSlices: slices.filter((_slice, at) => at % of === index),
        inputs: inputs / of,
        blockSize,
        pieces: held / of,
        padding,
        isPlain: false,
      }),
    );
  }

  /** A weight that every rank holds all rows of. */
  #part(role: string): LinearPart {
    const weight = this.#role(`${role}.weight`);
    const [rows = 0, columns = 0] = weight.shape;
    return {
      source: weight.name,
      biasSource: this.#roles.get(`${role}.bias`)?.name ?? null,
      rows,
      columns,
      factor: 1,
      rowSlices: new Array<Slice>(this.#worldSize).fill({ start: 0, count: rows }),
      rowsPerRank: rows,
    };
  }

  #role(role: string): RoleTensor {
    const found = this.#roles.get(role);
    assert(found, `the model has no ${role}`);
    return found;
  }

  /** Weight and bias of a norm or a table, as far as the model has them. */
  #optionalCopies(role: string, factor = 1): CopyItem[] {
    return ['weight', 'bias'].flatMap((kind) => {
      const tensor = this.#roles.get(`${role}.${kind}`);
      if (!tensor) return [];
      const item = this.#copy(kind === 'weight' ? role : `${role}.bias`, tensor, 'float32');
      return [{ ...item, factor }];
    });
  }

  #linear(linear: string, { blockSize, isPlain, ...options }: LinearOptions): LinearItem {
    const { split, piece, parts, inputs } = options;
    const name = piece === null ? linear : pieceName(linear, piece.index);
    const outputs = parts.reduce((sum, part) => sum + part.rowsPerRank, 0);
    const sources = parts.map((part) => part.source);
    const biasSources = parts.flatMap((part) => part.biasSource ?? []);
    const codes = codesOf(this.#coded, sources);
    const format = linearFormat(this.#format, linear, this.#shape.numLayers, blockSize, codes);
    const isCoded = codes === 'own' && !isPlain;
    const store = (kind: string, type: ElementType, size: number[], cut: TensorEntry['split'] = split) => ({
      ...this.#store(`${name}.${kind}`, 'rank', type, size, cut, kind === 'bias' ? biasSources : sources),
      ...(piece === null || kind === 'bias' ? {} : { piece }),
    });
    const biasSplit = split === 'row' ? 'rank-0' : split;
    const storeBias = (): TensorEntry | null =>
      biasSources.length > 0 ? store('bias', 'float32', [outputs], biasSplit) : null;
    const item = { kind: 'linear' as const, name, outputs, format, panels: null, isCoded, ...options };
    const panels = isPlain ? null : panelFormat(this.#format, format);
    if (panels !== null) {
      const bytes = panelCount(outputs) * panelBytes(panels, inputs);
      const entry = store('weight', 'uint8', [bytes]);
      const weight = { ...entry, panels: { ...panels, outputs, inputs, pieces: options.pieces } };
      return { ...item, panels, weight, scales: null, zeroPoints: null, bias: storeBias() };
    }
    if (format === null) {
      const weight = store('weight', 'float32', [outputs, inputs]);
      return { ...item, weight, scales: null, zeroPoints: null, bias: storeBias() };
    }
    const blocks = blocksPerRow(inputs, format.blockSize);
    const size = [outputs, blocks, blockBytes(format.bits, format.blockSize)];
    const packing = { bits: format.bits, blockSize: format.blockSize };
    return {
      ...item,
      weight: { ...store('weight', 'uint8', size), packing },
      scales: store('scales', 'float32', [outputs, blocks]),
      zeroPoints: format.symmetric
        ? null
        : store('zero-points', 'uint8', [outputs, zeroPointBytes(format.bits, blocks)]),
      bias: storeBias(),
    };
  }

  #copy(name: string, { name: source, shape }: RoleTensor, type: ElementType): CopyItem {
    const weight = this.#store(name, 'shared', type, shape, 'replicated', [source]);
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
