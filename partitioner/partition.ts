/**
 * Checkpoint → shards: reads a Hugging Face folder, plans, and writes one folder of the shard store.
 *
 * In      a model folder (config.json, *.safetensors; config.json alone with random weights), degree, format, store
 * Out     shard folder and manifest (proto/manifest.ts); shards that are there already are used again
 * Limits  memory: a chunk of one tensor; disk: the shards, once more while they are made
 * Errors  ServingError CHECKPOINT_INVALID, TENSOR_PARALLEL_INVALID, CONFIG_INVALID, OUT_OF_MEMORY (the disk is too small);
 *         after any error nothing is left behind
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, statfsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ServingError } from '../proto/errors.js';
import { kernelLibrary } from '../proto/kernel-library.js';
import { MANIFEST_FORMAT_VERSION } from '../proto/limits.js';
import type { ElementType, FileEntry, Manifest } from '../proto/manifest.js';
import { type CheckpointConfig, readModelConfig } from './checkpoint/config-file.js';
import { readQuantisation } from './checkpoint/quantisation.js';
import type { StoredType, TensorSource } from './checkpoint/tensor-source.js';
import { buildSegments } from './graph/segments.js';
import { rankWeights, SHARED_WEIGHTS } from './graph/weight-files.js';
import { importanceDigest, readImportance } from './importance/importance.js';
import { tellSquares } from './importance/squares.js';
import { configuredType, type ModelOptions, openModel, recogniseFolder } from './open-model.js';
import { attentionOutPadding } from './plan/degrees.js';
import { type EmbeddingShape, isNormalised } from './plan/embedding-shape.js';
import { cachedHeadDim, type ModelShape } from './plan/model-shape.js';
import { type DeviceClass, makePlan, type Plan, storedTensors } from './plan/plan.js';
import { countParameters, embeddingName } from './plan/role-tensors.js';
import type { PolicyReport } from './policies/recognise-model.js';
import { type CodedTensors, chooseCodedFormat, expectedCodes, heldCodes } from './quantise/coded-format.js';
import { PANEL_BLOCK_SIZES } from './quantise/panels.js';
import { describeStored } from './quantise/stored-weights.js';
import {
  DEFAULT_BLOCK_SIZE,
  type FormatOptions,
  FP32_FORMAT,
  usesImportance,
  type WeightFormat,
} from './quantise/weight-format.js';
import { contentName } from './store/content-name.js';
import { MANIFEST_FILE, ShardStore } from './store/shard-store.js';
import { WeightsFile } from './store/weights-file.js';
import { writeWeights } from './store/weights-writer.js';

export interface PartitionOptions extends ModelOptions, FormatOptions {
  /** Folder of the shard store; made if it is not there. */
  outStore: string;
  /** Tensor parallel degree. */
  tp: number;
  onPlan?: (plan: Plan, report: PolicyReport) => void;
  onProgress?: (doneBytes: number, totalBytes: number) => void;
  /** Ends the work; its reason is thrown. */
  signal?: AbortSignal;
  /** File of how much each input counts (importance.ts); absent: all alike. Only int4 in the layout of our own kernels asks for it. */
  importance?: string | undefined;
  /** Shards that also tell the squares of every linear's inputs (calibration/). */
  tellsSquares?: boolean | undefined;
  /** What the shards are for; absent: cpu. */
  device?: DeviceClass | undefined;
}

export interface PartitionResult {
  shardFolder: string;
  manifest: Manifest;
  /** The shards were there already. */
  reused: boolean;
}

/** @throws ServingError */
export async function partition(options: PartitionOptions): Promise<PartitionResult> {
  const { checkTiedHead, config, report, shape, source } = await openModel(options);
  try {
    const plain = planFor(options, shape, embeddingTypeOf(shape, source), source.coded ?? new Map());
    const plan = options.tellsSquares ? tellSquares(plain) : plain;
    const importance = usesImportance(plan.format) ? (options.importance ?? null) : null;
    options.onPlan?.(plan, withStored(report, config, plan));
    const { randomWeights = false, seed = 0 } = options;
    const name = contentName({
      modelType: shape.modelType,
      folder: config.folder,
      configs: [config.raw, config.generation, shape.embedding, report.policy],
      sources: source.files,
      worldSize: plan.worldSize,
      format: plan.format,
      deviceClass: plan.deviceClass,
      toolVersion: TOOL_VERSION,
      randomSeed: randomWeights ? seed : null,
      ...(importance === null ? {} : { importance: importanceDigest(importance) }),
      ...(options.tellsSquares ? { tellsSquares: true } : {}),
    });
    const store = new ShardStore(options.outStore);
    const found = store.find(name);
    if (found) return { shardFolder: store.shardFolder(name), manifest: found, reused: true };
    checkTiedHead();
    const manifest = await writeShards(options, { config, plan, source, store, name, importance });
    return { shardFolder: store.shardFolder(name), manifest, reused: false };
  } finally {
    source.close();
  }
}

/**
 * The plan alone, of config.json alone (an unknown model's also of the names in its checkpoint).
 *
 * @throws ServingError
 */
export async function planPartition(
  options: Pick<PartitionOptions, 'folder' | 'tp' | 'device' | keyof FormatOptions>,
): Promise<{ plan: Plan; report: PolicyReport }> {
  const config = readModelConfig(options.folder);
  if (config.gguf === null) {
    const { report, shape } = await recogniseFolder(config, true);
    const codes = expectedCodes(shape, readQuantisation(config));
    const plan = planFor(options, shape, configuredType(config), codes);
    return { plan, report: withStored(report, config, plan) };
  }
  // One file says all.
  const { report, shape, source } = await openModel({ folder: options.folder }, config);
  source.close();
  const plan = planFor(options, shape, embeddingTypeOf(shape, source), source.coded ?? new Map());
  return { plan, report: withStored(report, config, plan) };
}

/** What a file of importances of a checkpoint is named by: all that the model's float32 answers depend on. */
export async function importanceKey(folder: string): Promise<string> {
  const { config, shape, source, report } = await openModel({ folder });
  try {
    const format = { ...FP32_FORMAT };
    return contentName({
      ...{ modelType: shape.modelType, folder: config.folder, sources: source.files, worldSize: 1, format },
      configs: [config.raw, report.policy],
      ...{ deviceClass: 'cpu', toolVersion: TOOL_VERSION, randomSeed: null, tellsSquares: true },
    });
  } finally {
    source.close();
  }
}

/** Where the importances of a checkpoint are kept, of shards in that store. */
export const importanceFile = async (folder: string, store: string): Promise<string> =>
  path.join(store, 'importance', `${await importanceKey(folder)}.safetensors`);

function withStored(report: PolicyReport, config: CheckpointConfig, plan: Plan): PolicyReport {
  const weights = describeStored(config, plan);
  return weights === null ? report : { ...report, weights };
}

const embeddingTypeOf = (shape: ModelShape, { tensors }: TensorSource): StoredType =>
  tensors.get(embeddingName(shape))?.type ?? 'float32';

/** Version of this program, from package.json. */
export const TOOL_VERSION = readToolVersion();

function readToolVersion(): string {
  const file = fileURLToPath(new URL('../../package.json', import.meta.url));
  const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string };
  return version;
}

function planFor(
  options: Pick<PartitionOptions, 'tp' | 'device' | keyof FormatOptions>,
  shape: ModelShape,
  embeddingType: ElementType,
  coded: CodedTensors,
): Plan {
  // Vectors are compared with those of other days: the same as in float32 unless another type is asked for.
  const { dtype = 'auto' } = options;
  const wanted = dtype === 'auto' && shape.embedding !== null ? 'fp32' : dtype;
  const { device: deviceClass = 'cpu' } = options;
  // Our own kernels are the CPU's.
  const layout = deviceClass === 'cpu' ? options.layout : 'blocks';
  const format = chooseFormat({ ...options, dtype: wanted, layout }, shape, coded);
  const held = heldCodes(coded, format);
  return makePlan({ shape, worldSize: options.tp, format, embeddingType, coded: held, deviceClass });
}

/** Our own kernels' layout wherever they are and can take the model. */
function chooseFormat(options: FormatOptions, shape: ModelShape, coded: CodedTensors): WeightFormat {
  const { blockSize = DEFAULT_BLOCK_SIZE } = options;
  const isTaken = kernelLibrary() !== null && PANEL_BLOCK_SIZES.includes(blockSize);
  const { layout = isTaken ? 'panels' : 'blocks' } = options;
  const parameters = countParameters(shape);
  const format = chooseCodedFormat({ ...options, layout }, parameters, coded, shape.numLayers);
  // Between columns of a group no zeros can be put.
  const isCoded = heldCodes(coded, format).size > 0;
  if (!isCoded || attentionOutPadding(shape, format) === null) return format;
  return chooseCodedFormat({ ...options, layout: 'blocks' }, parameters, coded, shape.numLayers);
}

interface WriteContext {
  config: CheckpointConfig;
  plan: Plan;
  source: TensorSource;
  store: ShardStore;
  name: string;
  importance: string | null;
}

async function writeShards(options: PartitionOptions, context: WriteContext): Promise<Manifest> {
  const { plan, source, store, name, importance } = context;
  const temporary = store.createTemporary();
  const files: WeightsFile[] = [];
  try {
    const totalBytes = plan.sharedBytes + plan.worldSize * plan.rankBytes;
    requireSpace(store.folder, totalBytes);
    const open = (file: string): WeightsFile => {
      const opened = new WeightsFile(path.join(temporary, file));
      files.push(opened);
      return opened;
    };
    const shared = open(SHARED_WEIGHTS);
    const ranks = Array.from({ length: plan.worldSize }, (_, rank) => open(rankWeights(rank)));
    await writeWeights(
      plan,
      source,
      { shared, ranks },
      {
        onProgress: (doneBytes) => options.onProgress?.(doneBytes, totalBytes),
        signal: options.signal,
        importance: importance === null ? null : readImportance(importance),
      },
    );
    const manifest: Manifest = {
      ...describe(options, context),
      shared: { path: SHARED_WEIGHTS, ...shared.finish() },
      ranks: ranks.map((file, rank) => ({
        weights: { path: rankWeights(rank), ...file.finish() },
        segments: writeSegments(plan, rank, temporary),
      })),
    };
    writeFileSync(path.join(temporary, MANIFEST_FILE), `${JSON.stringify(manifest, null, 1)}\n`, {
      flush: true,
    });
    store.publish(temporary, name);
    return manifest;
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'ENOSPC' || code === 'EDQUOT') throw diskTooSmall(store.folder, error);
    if (code === 'EIO' || code === 'EROFS')
      throw new ServingError(
        'WORKER_FAILED',
        `the disk under ${store.folder} or the checkpoint has failed: ${code}`,
        {
          cause: error,
        },
      );
    throw error;
  } finally {
    for (const file of files) file.close();
    store.discard(temporary);
  }
}

/** All of the manifest that is known before a byte is written. */
function describe(
  options: PartitionOptions,
  { config, plan, source, name }: WriteContext,
): Omit<Manifest, 'shared' | 'ranks'> {
  const { shape } = plan;
  const { numHeads, numKvHeads, vocab } = plan.perRank;
  return {
    formatVersion: MANIFEST_FORMAT_VERSION,
    toolVersion: TOOL_VERSION,
    name,
    worldSize: plan.worldSize,
    deviceClass: plan.deviceClass,
    weightFormat: plan.format,
    randomWeights: options.randomWeights ?? false,
    model: {
      architecture: shape.architecture,
      modelType: shape.modelType,
      vocabSize: shape.vocabSize,
      hiddenSize: shape.hiddenSize,
      numLayers: shape.numLayers,
      contextLength: shape.contextLength,
      endIds: [...config.endIds()],
      beginId: config.beginId(),
      generationDefaults: config.generationDefaults(),
      parameters: plan.parameters,
      ...(shape.embedding === null ? {} : { embedding: describeEmbedding(shape.embedding) }),
    },
    perRank: { numHeads, numKvHeads, headDim: cachedHeadDim(shape), vocab },
    buffers: plan.buffers,
    program: plan.program,
    attend: plan.attend,
    sumSegment: plan.sumSegment,
    io: plan.io,
    ...(plan.longContext === null ? {} : { longContext: plan.longContext }),
    tensors: storedTensors(plan),
    sources: source.files.map((file) => ({ ...file })),
  };
}

function describeEmbedding(embedding: EmbeddingShape): NonNullable<Manifest['model']['embedding']> {
  const { dimensions, labels, lowerCase, prefix, shorterDimensions, textTokens } = embedding;
  return {
    ...(labels === null ? {} : { labels: { ...labels, names: [...labels.names] } }),
    ...{ dimensions, textTokens, normalised: isNormalised(embedding), lowerCase, prefix },
    ...(shorterDimensions === null ? {} : { shorterDimensions: [...shorterDimensions] }),
  };
}

function writeSegments(plan: Plan, rank: number, folder: string): FileEntry[] {
  mkdirSync(path.join(folder, `rank-${rank}`));
  return [...buildSegments(plan, rank, TOOL_VERSION)].map(([segment, bytes]) => {
    const file = `rank-${rank}/${segment}.onnx`;
    writeFileSync(path.join(folder, file), bytes, { flush: true });
    return { path: file, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
  });
}

/** Better before the first byte than an hour later. */
function requireSpace(folder: string, bytes: number): void {
  const { bavail, bsize } = statfsSync(folder);
  if (bavail * bsize < bytes) throw diskTooSmall(folder, undefined, bytes, bavail * bsize);
}

function diskTooSmall(folder: string, cause?: unknown, needed?: number, free?: number): ServingError {
  const sizes = needed === undefined ? '' : `: ${needed} bytes are needed, ${free} are free`;
  return new ServingError('OUT_OF_MEMORY', `no space left for the shards in ${folder}${sizes}`, { cause });
}
