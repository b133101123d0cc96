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
import type { EmbeddingShape } from './embedding-shape.js';
import {
  attentionNormOf,
  type GatedNames,
  hasExperts,
  type LatentShape,
  type ModelShape,
  type Place,
  type RolePlace,
  type RowPick,
  valueDim,
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
  /** Index in the source's outermost axis of the matrix that the role is, or is part of; null: the source is no stack. */
  matrix: number | null;
  rows: RowPick | null;
  ofHeads?: Place['ofHeads'];
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

/** Role of the weights of the vector's `index`-th step. */
export const vectorRole = (index: number): string => `dense-${index}`;

/** Numbers of an activation and their shapes, as transformers names them. */
export const ACTIVATION_PARTS: Readonly<Record<string, readonly number[]>> = {
  alpha_p: [1],
  alpha_n: [1],
  beta: [],
  eps: [],
};

export const activationRole = (layer: number, part: string): string =>
  `layer-${layer}.activation-${part.replace('_', '-')}`;

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
    const {
      names,
      vocabSize,
      embeddingSize,
      hiddenSize,
      contextLength,
      numHeads,
      numLayers,
      distances,
      relativeBias,
      textKinds,
      tiedHead,
      biases,
    } = this.#shape;
    this.#add('embedding.weight', names.embedding, [vocabSize, embeddingSize]);
    if (names.embeddingIn !== null)
      this.#add('embedding-in.weight', names.embeddingIn, [hiddenSize, embeddingSize]);
    if (names.positions !== null)
      this.#add('position-table.weight', names.positions, [contextLength, hiddenSize]);
    if (names.tokenType !== null) this.#add('token-type.weight', names.tokenType, [textKinds, hiddenSize]);
    this.#norm('embedding-norm', names.embeddingNorm);
    if (names.relativeBias !== null && relativeBias !== null)
      this.#add('relative-bias.weight', names.relativeBias, [relativeBias.rows, numHeads]);
    if (names.distances !== null && distances !== null) {
      this.#add('distances.weight', names.distances, [2 * distances.span, hiddenSize]);
      if (distances.isNormed) this.#norm('distances-norm', names.distancesNorm);
    }
    for (let layer = 0; layer < numLayers; layer++) this.#layer(layer);
    this.#norm('final-norm', names.finalNorm);
    if (this.#shape.embedding !== null) this.#vector(this.#shape.embedding);
    if (names.head === null) return;
    if (names.embeddingOut !== null)
      this.#add('embedding-out.weight', names.embeddingOut, [embeddingSize, hiddenSize]);
    const factor = this.#shape.logitScale;
    this.#add('head.weight', tiedHead ? names.embedding : names.head, [vocabSize, embeddingSize], { factor });
    if (biases.head) this.#add('head.bias', names.head, [vocabSize], { factor });
  }

  #vector({ steps }: EmbeddingShape): void {
    for (const [index, step] of steps.entries()) {
      const role = vectorRole(index);
      if (step.kind === 'dense') this.#linear(role, step.stem, [step.outputs, step.inputs], step.hasBias);
      if (step.kind !== 'layer-norm') continue;
      this.#add(`${role}.weight`, step.stem, [step.size]);
      if (step.hasBias) this.#add(`${role}.bias`, step.stem, [step.size]);
    }
  }

  #layer(layer: number): void {
    const { hiddenSize, headDim, ffnSize, numHeads, numKvHeads, biases, residualScale } = this.#shape;
    const names = this.#shape.names.layer;
    const role = (name: string): string => `layer-${layer}.${name}`;
    const at = <T extends RolePlace | null>(place: T): T => inLayer(place, layer);
    const queryRows = numHeads * headDim;
    const kvRows = numKvHeads * headDim;
    const linear = (name: string, place: RolePlace, rows: number, columns: number, bias: boolean): void =>
      this.#linear(role(name), at(place), [rows, columns], bias);
    this.#norm(role('attention-norm'), at(attentionNormOf(this.#shape, layer)));
    if (this.#shape.latent === null) {
      linear('query', names.query, queryRows, hiddenSize, biases.qkv);
      linear('key', names.key, kvRows, hiddenSize, biases.qkv);
      linear('value', names.value, kvRows, hiddenSize, biases.qkv);
    } else {
      this.#latents(layer, this.#shape.latent);
    }
    this.#headNorm(role('query-norm'), at(names.queryNorm), numHeads);
    this.#headNorm(role('key-norm'), at(names.keyNorm), numKvHeads);
    if (names.sinks !== null) this.#add(role('sinks.weight'), at(names.sinks), [numHeads]);
    const change = { factor: residualScale };
    this.#linear(
      role('attention-out'),
      at(names.attentionOut),
      [hiddenSize, numHeads * valueDim(this.#shape)],
      biases.attentionOut,
      change,
    );
    this.#norm(role('attention-post-norm'), at(names.attentionPostNorm));
    this.#norm(role('mlp-norm'), at(names.mlpNorm));
    if (names.activation !== null) {
      for (const [part, size] of Object.entries(ACTIVATION_PARTS)) {
        const place = {
          stem: at(names.activation),
          endings: { weight: `.${part}`, bias: '' },
          rows: null,
          transposed: false,
        };
        this.#add(`${activationRole(layer, part)}.weight`, place, size);
      }
    }
    if (hasExperts(this.#shape, layer)) {
      this.#experts(layer);
    } else {
      if (names.gate !== null) linear('gate', names.gate, ffnSize, hiddenSize, biases.mlp);
      linear('up', names.up, ffnSize, hiddenSize, biases.mlp);
      this.#linear(role('down'), at(names.down), [hiddenSize, ffnSize], biases.mlpDown, change);
    }
    this.#norm(role('mlp-post-norm'), at(names.mlpPostNorm));
  }

  /** The bias is that of the linears that make latents. */
  #latents(layer: number, latent: LatentShape): void {
    const { biases, headDim, hiddenSize, names, numHeads } = this.#shape;
    const { plainDim, queryRank, rank, valueDim: values } = latent;
    const at = <T extends RolePlace | null>(place: T): T => inLayer(place, layer);
    const role = (name: string): string => `layer-${layer}.${name}`;
    const places = names.layer.latent;
    if (places === null) return;
    const rotated = headDim - rank;
    if (queryRank !== null) {
      this.#linear(role('query-down'), at(places.queryDown), [queryRank, hiddenSize], biases.qkv);
      this.#add(role('query-down-norm.weight'), at(places.queryDownNorm), [queryRank]);
    }
    this.#linear(
      role('query'),
      at(names.layer.query),
      [numHeads * (plainDim + rotated), queryRank ?? hiddenSize],
      false,
    );
    this.#linear(role('key-value-down'), at(places.keyValueDown), [rank + rotated, hiddenSize], biases.qkv);
    this.#add(role('key-value-down-norm.weight'), at(places.keyValueDownNorm), [rank]);
    const up = (name: string, firstUnit: number, units: number, ofHeads: 'upright' | 'turned'): void => {
      const rows = { unitRows: 1, groupUnits: plainDim + values, firstUnit, units };
      const place = { stem: at(places.keyValueUp), rows, ofHeads, transposed: false };
      this.#linear(role(name), place, [numHeads * units, rank], false);
    };
    // What a query is multiplied by makes its columns of the latent's.
    up('key-up', 0, plainDim, 'turned');
    up('value-up', plainDim, values, 'upright');
  }

  #experts(layer: number): void {
    const { experts, hiddenSize } = this.#shape;
    const names = this.#shape.names.layer.experts;
    if (experts === null || names === null) return;
    const { biases, count, ffnSize, sharedFfnSize } = experts;
    const router = inLayer(names.router, layer);
    this.#linear(`layer-${layer}.router`, router, [count, hiddenSize], biases);
    if (names.choiceBias !== null) {
      const size = names.choiceBias.isRow ? [1, count] : [count];
      this.#add(`layer-${layer}.router-choice.weight`, inLayer(names.choiceBias, layer), size);
    }
    for (let expert = 0; expert < count; expert++) {
      this.#gated(`layer-${layer}.expert-${expert}`, names, { layer, expert, count }, ffnSize, biases);
    }
    if (names.shared === null || sharedFfnSize === null) return;
    if (names.shared.router !== null) {
      this.#add(`layer-${layer}.shared-router.weight`, inLayer(names.shared.router, layer), [1, hiddenSize]);
    }
    this.#gated(`layer-${layer}.shared`, names.shared, { layer, expert: 0, count: 1 }, sharedFfnSize, false);
  }

  #gated(role: string, names: GatedNames, visited: VisitedExpert, ffnSize: number, biases: boolean): void {
    const { hiddenSize, residualScale } = this.#shape;
    const linear = (name: keyof GatedNames, size: [number, number], change?: Change): void => {
      this.#linear(`${role}.${name}`, ofExpert(names[name], visited), size, biases, change, visited);
    };
    linear('gate', [ffnSize, hiddenSize]);
    linear('up', [ffnSize, hiddenSize]);
    linear('down', [hiddenSize, ffnSize], { factor: residualScale });
  }

  #linear(
    role: string,
    place: RolePlace,
    size: [number, number],
    bias: boolean,
    change?: Change,
    visited?: VisitedExpert,
  ): void {
    this.#add(`${role}.weight`, place, size, change, visited);
    if (bias) this.#add(`${role}.bias`, place, [size[0]], change, visited);
  }

  #norm(role: string, place: string | null): void {
    const { norm, hiddenSize } = this.#shape;
    if (place === null || !norm.hasWeight) return;
    this.#add(`${role}.weight`, place, [hiddenSize], { addend: norm.plusOne ? 1 : 0 });
    if (norm.hasBias) this.#add(`${role}.bias`, place, [hiddenSize]);
  }

  #headNorm(role: string, place: string | null, heads: number): void {
    const { headNorm, headDim, norm } = this.#shape;
    if (headNorm === 'none' || headNorm === 'unit' || place === null) return;
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
    visited?: VisitedExpert,
  ): void {
    const { stem, endings = ENDINGS, stacked = false, ofHeads, rows, transposed } = asPlace(place);
    const kind = role.endsWith('.bias') ? 'bias' : 'weight';
    const parts = placedSources(`${stem}${endings[kind]}`, size, rows, transposed && size.length === 2);
    const stack = stacked && visited !== undefined ? visited : null;
    const sources =
      stack === null ? parts : parts.map(({ name, shape }) => ({ name, shape: [stack.count, ...shape] }));
    const [first] = sources;
    const isSame = sources.length === 1 && first?.shape.join() === size.join();
    const isWhole = rows === null && !transposed && factor === 1 && addend === 0 && isSame;
    const shortRole = role.replace(/^layer-\d+\./, '').replace(/\.(weight|bias)$/, '');
    this.tensors.push({
      role,
      name: isWhole ? (first?.name ?? '') : `${first?.name ?? ''}[${shortRole}]`,
      shape: ofHeads === 'turned' && rows !== null ? turnedSize(size, rows) : size,
      sources,
      matrix: stack?.expert ?? null,
      rows,
      ...(ofHeads === undefined ? {} : { ofHeads }),
      transposed: transposed && size.length === 2,
      factor,
      addend,
    });
  }
}

/** `{layer}` stands for the layer's index. */
const layerName = (pattern: string, layer: number): string => pattern.replace('{layer}', String(layer));

const ENDINGS: NonNullable<Place['endings']> = { weight: '.weight', bias: '.bias' };

const asPlace = (place: RolePlace): Place =>
  typeof place === 'string' ? { stem: place, rows: null, transposed: false } : place;

function inLayer<T extends RolePlace | null>(place: T, layer: number): T;
function inLayer(place: RolePlace | null, layer: number): RolePlace | null {
  if (place === null) return null;
  return typeof place === 'string'
    ? layerName(place, layer)
    : { ...place, stem: layerName(place.stem, layer) };
}

/** One of `count` experts. */
interface VisitedExpert {
  layer: number;
  expert: number;
  count: number;
}

function ofExpert(place: RolePlace, { layer, expert }: VisitedExpert): Place {
  const found = inLayer(asPlace(place), layer);
  return { ...found, stem: found.stem.replace('{expert}', String(expert)) };
}

/** [heads · rows, columns] → [heads · columns, rows]: each head's matrix turned. */
function turnedSize([height = 1, columns = 1]: readonly number[], { units, unitRows }: RowPick): number[] {
  const rows = units * unitRows;
  return [(height / rows) * columns, rows];
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
  const stored = size.length === 0 ? [] : [total, ...rest];
  return [{ name, shape: transposed ? stored.reverse() : stored }];
}
