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
 *         A rank with fewer heads than another has zeros in their place, as all that is padded: ranks keep step with the one that
 *         has most in any case, and all have the same sizes.
 *         Head: vocab-parallel. Embedding, norms, rope tables: whole, once, in the shared file.
 *         ffn is padded with zeros to world size × block, the vocabulary to world size × 16; both are exact.
 *         Quantised tensors are quantised whole, then cut on block borders, so that every degree has the same model; row-parallel
 *         ones are cut further, into pieces that are the same at several degrees, so that these give the same bits (sum-pieces.ts).
 *         The scale of scores is folded into the query: into its weight and bias, or into its norm's weight where it has one.
 *         Where a norm is taken over the queries or keys of all heads, every rank computes all of them and keeps its own.
 * Source  Megatron-LM (Shoeybi et al. 2019) for which side is cut
 */
import type { ElementType, Manifest, TensorEntry } from '../../proto/manifest.js';
import { type LongContext, longContext } from '../architectures/rope-table.js';
import { planBuffers, planProgram } from '../graph/program.js';
import type { CodedTensors } from '../quantise/coded-format.js';
import type { WeightFormat } from '../quantise/weight-format.js';
import { checkDegree } from './degrees.js';
import { cachedHeadDim, type ModelShape } from './model-shape.js';
import type { PlanItem } from './plan-item.js';
import { ItemPlanner, type RankSizes } from './plan-items.js';
import { headSlices, perRankPadded } from './rank-slices.js';
import { remoteShape } from './remote-shape.js';
import { countParameters } from './role-tensors.js';
import { piecesPerRank, sumsItself } from './sum-pieces.js';

/** A rank's rows of the head are padded to a multiple of this. */
const VOCAB_UNIT = 16;

export type DeviceClass = Manifest['deviceClass'];

export interface Plan {
  shape: ModelShape;
  worldSize: number;
  deviceClass: DeviceClass;
  format: WeightFormat;
  parameters: number;
  perRank: RankSizes;
  /** Linears that every row-parallel one is on one rank (sum-pieces.ts). */
  piecesPerRank: number;
  /** In the order they are written. */
  items: readonly PlanItem[];
  sharedBytes: number;
  /** Weights file of one rank; all ranks' are equally long. */
  rankBytes: number;
  kvBytesPerTokenPerRank: number;
  buffers: Manifest['buffers'];
  program: Manifest['program'];
  attend: Manifest['attend'];
  sumSegment: Manifest['sumSegment'];
  io: Manifest['io'];
  longContext: LongContext | null;
  /** Segments also give the sums of squares of their linears' inputs (squares.ts). */
  tellsSquares?: boolean;
}

export interface PlanOptions {
  shape: ModelShape;
  worldSize: number;
  format: WeightFormat;
  /** Stored type of the embedding: it is kept. */
  embeddingType: ElementType;
  /** Checkpoint tensors in 4-bit codes. */
  coded?: CodedTensors;
  /** Absent: cpu. */
  deviceClass?: DeviceClass | undefined;
}

/** @throws ServingError TENSOR_PARALLEL_INVALID */
export function makePlan(options: PlanOptions): Plan {
  const { worldSize, format, embeddingType, coded = new Map(), deviceClass = 'cpu' } = options;
  const shape = deviceClass === 'cpu' ? options.shape : remoteShape(options.shape, deviceClass);
  checkDegree(shape, format, worldSize);
  const heads = headSlices(shape.numHeads, shape.numKvHeads, worldSize) ?? [];
  const perRank = {
    // The first rank has most.
    numHeads: Math.max(...heads.map(({ query }) => query.count)),
    numKvHeads: heads[0]?.kv.count ?? 0,
    headDim: shape.headDim,
    vocab: perRankPadded(shape.vocabSize, worldSize, VOCAB_UNIT),
  };
  const planner = new ItemPlanner(shape, worldSize, format, perRank, coded);
  // A remote device gathers rows of float32 alone.
  const items = planner.items(deviceClass === 'cpu' ? embeddingType : 'float32');
  return {
    shape,
    worldSize,
    deviceClass,
    format,
    parameters: countParameters(shape),
    perRank,
    piecesPerRank: sumsItself(shape, format) ? 1 : piecesPerRank(shape, format, worldSize),
    items,
    sharedBytes: planner.bytes.shared,
    rankBytes: planner.bytes.rank,
    kvBytesPerTokenPerRank:
      shape.attention === 'bidirectional'
        ? 0
        : (shape.latent === null ? 2 : 1) * shape.numLayers * perRank.numKvHeads * cachedHeadDim(shape) * 4,
    longContext: shape.ropes[0] ? longContext(shape.ropes[0], shape.contextLength) : null,
    ...planBuffers(shape, worldSize, perRank),
    ...planProgram(shape, worldSize, deviceClass),
  };
}

/** All stored tensors of a plan, for the manifest. */
export function storedTensors(plan: Plan): TensorEntry[] {
  return plan.items.flatMap((item) =>
    item.kind === 'linear'
      ? [item.weight, item.scales, item.zeroPoints, item.bias].filter((entry) => entry !== null)
      : [item.weight],
  );
}
