/**
 * Every tensor a model is made of, by its role, and where it lies in the checkpoint.
 *
 * In      ModelShape
 * Out     role tensors in the order a forward pass meets them; the checkpoint tensors they are cut out of
 * Pure
 *
 * A role is often a whole tensor. Where a checkpoint keeps several roles in one (fused query, key and value), keeps a weight
 * transposed, or where the model scales it, the role is a view: checkpoint/view-source.ts reads it as if it were a tensor of
 * its own, and nobody after that knows.
 */
import {
  type EmbeddingShape,
  type GatedNames,
  hasExperts,
  type ModelShape,
  type Place,
  type RolePlace,
  type RowPick,
} from './model-shape.js';

/** A tensor of the checkpoint: its name and what its shape must be. */
export interface ExpectedTensor {
  name: string;
  shape: readonly number[];
}

export interface RoleTensor {
  /** For example `layer-3.query.weight`. */
  role: string;
  /** Name of the checkpoint tensor; with the role in brackets if it is not simply that tensor. */
  name: string;
  shape: readonly number[];
  /** One tensor; or one a row, below each other. */
  sources: readonly ExpectedTensor[];
  rows: RowPick | null;
  transposed: boolean;
  /** value · factor + addend */
  factor: number;
  addend: number;
}

/** @returns in the order of a forward pass; `head.weight` of a tied head reads the embedding */
export function roleTensors(shape: ModelShape): RoleTensor[] {
  const lister = new RoleLister(shape);
  lister.model();
  return lister.tensors;
}

/** Every tensor the checkpoint must hold, each once, in the order a forward pass meets them. */
export function expectedTensors(shape: ModelShape): ExpectedTensor[] {
  const byName = new Map<string, ExpectedTensor>();
  for (const { sources } of roleTensors(shape)) {
    for (const source of sources) if (!byName.has(source.name)) byName.set(source.name, source);
  }
  return [...byName.values()];
}

/** Weights of the model, a tied head counted once. */
export function countParameters(shape: ModelShape): number {
  return expectedTensors(shape).reduce(
    (sum, tensor) => sum + tensor.shape.reduce((product, size) => product * size, 1),
    0,
  );
}

/** Name of the embedding's weight in the checkpoint. */
export const embeddingName = (shape: ModelShape): string => `${shape.names.embedding}.weight`;

/** Role of the dense layer that is the vector's `index`-th step. */
export const denseRole = (index: number): string => `dense-${index}`;

/** What the names of tensors from a dense layer's own folder begin with. */
export const denseTensors = (folder: string): string => `${folder}/`;

interface Change {
  factor?: number;
  addend?: number;
}

class RoleLister {
  readonly tensors: RoleTensor[] = [];
  readonly #shape: ModelShape;

  constructor(shape: ModelShape) {
    this.#shape = shape;
  }

  model(): void {
    const { names, vocabSize, hiddenSize, contextLength, numLayers, tiedHead, biases } = this.#shape;
    this.#add('embedding.weight', names.embedding, [vocabSize, hiddenSize]);
    if (names.positions !== null)
      this.#add('position-table.weight', names.positions, [contextLength, hiddenSize]);
    if (names.tokenType !== null) this.#add('token-type.weight', names.tokenType, [1, hiddenSize]);
    this.#norm('embedding-norm', names.embeddingNorm);
    for (let layer = 0; layer < numLayers; layer++) this.#layer(layer);
    this.#norm('final-norm', names.finalNorm);
    if (this.#shape.embedding !== null) this.#vector(this.#shape.embedding);
    if (names.head === null) return;
    const factor = this.#shape.logitScale;
    this.#add('head.weight', tiedHead ? names.embedding : names.head, [vocabSize, hiddenSize], { factor });
    if (biases.head) this.#add('head.bias', names.head, [vocabSize], { factor });
  }

  #vector({ steps }: EmbeddingShape): void {
    for (const [index, step] of steps.entries()) {
      if (step.kind !== 'dense') continue;
      const stem = `${denseTensors(step.folder)}linear`;
      this.#linear(denseRole(index), stem, [step.outputs, step.inputs], step.hasBias);
    }
  }

  #layer(layer: number): void {
    const { hiddenSize, headDim, ffnSize, numHeads, numKvHeads, biases, residualScale } = this.#shape;
    const names = this.#shape.names.layer;
    const role = (name: string): string => `layer-${layer}.${name}`;
    const at = <T extends RolePlace | null>(place: T): T => inLayer(place, layer) as T;
    const queryRows = numHeads * headDim;
    const kvRows = numKvHeads * headDim;
    const linear = (name: string, place: RolePlace, rows: number, columns: number, bias: boolean): void =>
      this.#linear(role(name), at(place), [rows, columns], bias);
    this.#norm(role('attention-norm'), at(names.attentionNorm));
    linear('query', names.query, queryRows, hiddenSize, biases.qkv);
    linear('key', names.key, kvRows, hiddenSize, biases.qkv);
    linear('value', names.value, kvRows, hiddenSize, biases.qkv);
    this.#headNorm(role('query-norm'), at(names.queryNorm), numHeads);
    this.#headNorm(role('key-norm'), at(names.keyNorm), numKvHeads);
    const change = { factor: residualScale };
    this.#linear(
      role('attention-out'),
      at(names.attentionOut),
      [hiddenSize, queryRows],
      biases.attentionOut,
      change,
    );
    this.#norm(role('attention-post-norm'), at(names.attentionPostNorm));
    this.#norm(role('mlp-norm'), at(names.mlpNorm));
    if (hasExperts(this.#shape, layer)) {
      this.#experts(layer);
    } else {
      if (names.gate !== null) linear('gate', names.gate, ffnSize, hiddenSize, biases.mlp);
      linear('up', names.up, ffnSize, hiddenSize, biases.mlp);
      this.#linear(role('down'), at(names.down), [hiddenSize, ffnSize], biases.mlp, change);
    }
    this.#norm(role('mlp-post-norm'), at(names.mlpPostNorm));
  }

  #experts(layer: number): void {
    const { experts, hiddenSize } = this.#shape;
    const names = this.#shape.names.layer.experts;
    if (experts === null || names === null) return;
    const { count, ffnSize, sharedFfnSize } = experts;
    const at = (stem: string, expert = 0): string =>
      layerName(stem, layer).replace('{expert}', String(expert));
    this.#add(`layer-${layer}.router.weight`, at(names.router), [count, hiddenSize]);
    for (let expert = 0; expert < count; expert++) {
      this.#gated(`layer-${layer}.expert-${expert}`, names, (stem) => at(stem, expert), ffnSize);
    }
    if (names.shared === null || sharedFfnSize === null) return;
    this.#add(`layer-${layer}.shared-router.weight`, at(names.shared.router), [1, hiddenSize]);
    this.#gated(`layer-${layer}.shared`, names.shared, at, sharedFfnSize);
  }

  #gated(role: string, names: GatedNames, at: (stem: string) => string, ffnSize: number): void {
    const { hiddenSize, residualScale } = this.#shape;
    this.#linear(`${role}.gate`, at(names.gate), [ffnSize, hiddenSize], false);
    this.#linear(`${role}.up`, at(names.up), [ffnSize, hiddenSize], false);
    this.#linear(`${role}.down`, at(names.down), [hiddenSize, ffnSize], false, { factor: residualScale });
  }

  #linear(role: string, place: RolePlace, size: [number, number], bias: boolean, change?: Change): void {
    this.#add(`${role}.weight`, place, size, change);
    if (bias) this.#add(`${role}.bias`, place, [size[0]], change);
  }

  #norm(role: string, place: string | null): void {
    const { norm, hiddenSize } = this.#shape;
    if (place === null || !norm.hasWeight) return;
    this.#add(`${role}.weight`, place, [hiddenSize], { addend: norm.plusOne ? 1 : 0 });
    if (norm.hasBias) this.#add(`${role}.bias`, place, [hiddenSize]);
  }

  #headNorm(role: string, place: string | null, heads: number): void {
    const { headNorm, headDim, norm } = this.#shape;
    if (headNorm === 'none' || place === null) return;
    const size = { 'per-head': [headDim], 'own-scales': [heads, headDim], whole: [heads * headDim] }[
      headNorm
    ];
    this.#add(`${role}.weight`, place, size, { addend: norm.plusOne ? 1 : 0 });
  }

  #add(
    role: string,
    place: RolePlace,
    size: readonly number[],
    { factor = 1, addend = 0 }: Change = {},
  ): void {
    const { stem, rows, transposed } = typeof place === 'string' ? wholeTensor(place) : place;
    const kind = role.endsWith('.bias') ? 'bias' : 'weight';
    const sources = placedSources(`${stem}.${kind}`, size, rows, transposed && size.length === 2);
    const [first] = sources;
    const isSame = sources.length === 1 && first?.shape.join() === size.join();
    const isWhole = rows === null && !transposed && factor === 1 && addend === 0 && isSame;
    const shortRole = role.replace(/^layer-\d+\./, '').replace(/\.(weight|bias)$/, '');
    this.tensors.push({
      role,
      name: isWhole ? (first?.name ?? '') : `${first?.name ?? ''}[${shortRole}]`,
      shape: size,
      sources,
      rows,
      transposed: transposed && size.length === 2,
      factor,
      addend,
    });
  }
}

/** `{layer}` stands for the layer's index. */
const layerName = (pattern: string, layer: number): string => pattern.replace('{layer}', String(layer));

const wholeTensor = (stem: string): Place => ({ stem, rows: null, transposed: false });

function inLayer(place: RolePlace | null, layer: number): RolePlace | null {
  if (place === null) return null;
  return typeof place === 'string'
    ? layerName(place, layer)
    : { ...place, stem: layerName(place.stem, layer) };
}

/** The checkpoint tensors a view of this size is made of. */
function placedSources(
  name: string,
  size: readonly number[],
  rows: RowPick | null,
  transposed: boolean,
): ExpectedTensor[] {
  const [height = 1, ...rest] = size;
  if (name.includes('{head}')) {
    return Array.from({ length: height }, (_, head) => ({
      name: name.replace('{head}', String(head)),
      shape: rest,
    }));
  }
  const groups = rows === null ? 1 : height / (rows.units * rows.unitRows);
  const total = rows === null ? height : groups * rows.groupUnits * rows.unitRows;
  const stored = [total, ...rest];
  return [{ name, shape: transposed ? stored.reverse() : stored }];
}
