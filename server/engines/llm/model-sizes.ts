/**
 * How much memory a worker group of a language model takes, known before anything is written or started.
 *
 * In      sizes of the model on its ranks: from the partitioner's plan, or from a manifest; sizes of the group
 * Out     bytes by what they are for
 * Pure
 *
 * Weights are counted for each group, since ONNX Runtime keeps its own arrangement of most of them; what all ranks hold whole
 * is one mapped file. KV memory is counted in full, though it is touched only as it is used: a running sequence never meets a
 * machine that has no more.
 */

import type { Manifest } from '../../../proto/manifest.js';
import type { PartitionPlan } from '../../../proto/partition.js';
import { type MemoryNeed, MIB } from '../../machine/memory-need.js';

/** A shard worker without a model: Node, ONNX Runtime, its arenas. Seen: 40 MiB of its own and 60 of mapped programs. */
const WORKER_BYTES = 128 * MIB;

/** The model's, whatever its group looks like. */
export interface ModelSizes {
  worldSize: number;
  /** All ranks together; the shared file once. */
  weightBytes: number;
  /** Keys and values of one token, over all layers and ranks. */
  kvBytesPerToken: number;
  /** Activations of one token on one rank. */
  activationBytesPerToken: number;
  contextLength: number;
  /** Tokens of a text, of an embedding model; null: it generates. */
  textTokens: number | null;
}

export function sizesOfPlan(plan: PartitionPlan): ModelSizes {
  return {
    worldSize: plan.worldSize,
    weightBytes: plan.sharedBytes + plan.bytesPerRank * plan.worldSize,
    kvBytesPerToken: plan.kvBytesPerTokenPerRank * plan.worldSize,
    activationBytesPerToken: plan.activationColumns * Float32Array.BYTES_PER_ELEMENT,
    contextLength: plan.contextLength,
    textTokens: plan.textTokens,
  };
}

export function sizesOfManifest(manifest: Manifest): ModelSizes {
  const { model, perRank, ranks, shared, worldSize } = manifest;
  const columns = manifest.buffers.reduce((sum, buffer) => sum + buffer.columns, 0);
  return {
    worldSize,
    weightBytes: (shared?.bytes ?? 0) + ranks.reduce((sum, rank) => sum + rank.weights.bytes, 0),
    kvBytesPerToken:
      manifest.attend.keysIn === 'step'
        ? 0
        : (manifest.attend.valuesAreKeys === true ? 1 : 2) *
          model.numLayers *
          perRank.numKvHeads *
          perRank.headDim *
          Float32Array.BYTES_PER_ELEMENT *
          worldSize,
    activationBytesPerToken: columns * Float32Array.BYTES_PER_ELEMENT,
    contextLength: model.contextLength,
    textTokens: model.embedding?.textTokens ?? null,
  };
}

/** @param requiredMb what the operator says it is; 0: estimated */
export function memoryNeed(
  sizes: ModelSizes,
  group: { kvTokens: number; maxStepTokens: number },
  requiredMb: number,
): MemoryNeed {
  const { activationBytesPerToken, kvBytesPerToken, weightBytes, worldSize } = sizes;
  const kvBytes = group.kvTokens * kvBytesPerToken;
  const workspaceBytes = worldSize * (WORKER_BYTES + group.maxStepTokens * activationBytesPerToken);
  const estimate = weightBytes + kvBytes + workspaceBytes;
  return { weightBytes, kvBytes, workspaceBytes, totalBytes: requiredMb > 0 ? requiredMb * MIB : estimate };
}
