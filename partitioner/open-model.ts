/**
 * Opens what is to be split: config.json as a ModelShape, and a source of weights that fits it.
 *
 * In      a model folder, or its GGUF file; or a folder with config.json alone, and a seed for random weights
 * Out     config, shape, source with the model's roles as tensors (role-tensors.ts); the caller closes the source
 * Errors  ServingError CHECKPOINT_INVALID: a file that is wrong; a tensor that is missing, of a type that can't be read, of
 *         another shape, or unknown (a weight that nobody uses means that the model computes something nobody here computes)
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { ServingError } from '../proto/errors.js';
import { codedSource } from './checkpoint/coded-source.js';
import { type CheckpointConfig, readModelConfig } from './checkpoint/config-file.js';
import { openGguf } from './checkpoint/gguf-source.js';
import { joinedSource, prefixedSource } from './checkpoint/joined-source.js';
import { printableName } from './checkpoint/json-file.js';
import { mxfp4Source } from './checkpoint/mxfp4-source.js';
import { readQuantisation } from './checkpoint/quantisation.js';
import { randomSource } from './checkpoint/random-source.js';
import { openCheckpoint } from './checkpoint/safetensors.js';
import { scaledSource } from './checkpoint/scaled-source.js';
import { requireTensor, type StoredType, type TensorSource } from './checkpoint/tensor-source.js';
import { renamedSource, viewSource } from './checkpoint/view-source.js';
import type { ModelShape } from './plan/model-shape.js';
import { denseTensors, embeddingName, expectedTensors, roleTensors } from './plan/role-tensors.js';
import { type PolicyReport, type RecognisedModel, recogniseModel } from './policies/recognise-model.js';

export interface ModelOptions {
  /** Folder with config.json, or a GGUF file. */
  folder: string;
  /** Noise instead of a checkpoint's weights. */
  randomWeights?: boolean | undefined;
  /** The noise's. */
  seed?: number | undefined;
}

export interface OpenModel {
  config: CheckpointConfig;
  shape: ModelShape;
  /** How the shape was come by. */
  report: PolicyReport;
  source: TensorSource;
  /** Reads two large tensors, where a tied checkpoint has a head of its own. @throws ServingError CHECKPOINT_INVALID: they differ */
  checkTiedHead(): void;
}

/** @throws ServingError CHECKPOINT_INVALID */
export async function openModel(
  options: ModelOptions,
  config = readModelConfig(options.folder),
): Promise<OpenModel> {
  const { report, shape } = await recogniseFolder(config, !options.randomWeights);
  const source = openSource(options, config, shape);
  try {
    checkTensors(shape, source);
    const checkTiedHead = (): void => checkHeadIsEmbedding(shape, source);
    return { config, shape, report, source: viewSource(source, roleTensors(shape)), checkTiedHead };
  } catch (error) {
    source.close();
    throw error;
  }
}

/**
 * The shape of the model in a folder, and how it was come by.
 *
 * @param hasCheckpoint false: config.json alone
 * @throws ServingError CHECKPOINT_INVALID
 */
export function recogniseFolder(config: CheckpointConfig, hasCheckpoint: boolean): Promise<RecognisedModel> {
  return recogniseModel(config, () =>
    hasCheckpoint && (config.gguf !== null || hasWeights(config.folder)) ? openFiles(config) : null,
  );
}

const openFiles = ({ folder, gguf }: CheckpointConfig): TensorSource =>
  gguf === null ? openCheckpoint(folder) : openGguf(gguf);

const hasWeights = (folder: string): boolean =>
  readdirSync(folder).some((name) => /\.(?:safetensors|bin|pt|pth)$/.test(name));

/** The type config.json says its weights are stored in. */
export function configuredType(config: CheckpointConfig): StoredType {
  const type = config.nullableString('dtype') ?? config.nullableString('torch_dtype');
  return type === 'float16' || type === 'bfloat16' ? type : 'float32';
}

function openSource(options: ModelOptions, config: CheckpointConfig, shape: ModelShape): TensorSource {
  if (!options.randomWeights) return openWeights(config, shape);
  const type = configuredType(config);
  return randomSource(
    expectedTensors(shape).map((tensor) => ({ ...tensor, type })),
    options.seed ?? 0,
  );
}

/** The checkpoint, and the dense layers that sentence-transformers keeps in folders of their own. */
function openWeights(config: CheckpointConfig, { embedding, names }: ModelShape): TensorSource {
  const { folder } = config;
  const opened = [renamedSource(unpacked(openFiles(config), config), names.renames)];
  try {
    for (const step of embedding?.steps ?? []) {
      if (step.kind !== 'dense' || step.folder === null) continue;
      opened.push(
        prefixedSource(openCheckpoint(join(folder, step.folder)), denseTensors(step.folder), step.folder),
      );
    }
  } catch (error) {
    for (const source of opened) source.close();
    throw error;
  }
  const [only, ...others] = opened;
  return only !== undefined && others.length === 0 ? only : joinedSource(opened);
}

/** Weights that were quantised elsewhere, as tensors like the others. */
function unpacked(source: TensorSource, config: CheckpointConfig): TensorSource {
  try {
    const quantisation = readQuantisation(config);
    if (quantisation === null) {
      const packed = [...(source.integers?.keys() ?? [])].find((name) => name.endsWith('.qweight'));
      if (packed === undefined) return source;
      throw config.wrong('quantization_config', `one that says how ${packed} was made`);
    }
    if (quantisation.method === 'mxfp4') return mxfp4Source(source);
    return 'scale' in quantisation ? scaledSource(source, quantisation) : codedSource(source, quantisation);
  } catch (error) {
    source.close();
    throw error;
  }
}

/**
 * Every tensor the shape asks for is there, and no other.
 *
 * @throws ServingError CHECKPOINT_INVALID
 */
export function checkTensors(shape: ModelShape, source: TensorSource): void {
  const expected = expectedTensors(shape);
  for (const { name, shape: size } of expected) {
    const found = requireTensor(source, name);
    if (found.shape.join() !== size.join()) {
      throw new ServingError(
        'CHECKPOINT_INVALID',
        `Tensor ${printableName(name)} has shape [${found.shape.join(', ')}], config.json asks for [${size.join(', ')}]`,
      );
    }
  }
  const turned = roleTensors(shape).find(({ sources, transposed }) => {
    return transposed && sources.some(({ name }) => source.coded?.has(name));
  });
  if (turned) {
    // Its codes lie the other way round, which a square weight would not show.
    throw new ServingError(
      'CHECKPOINT_INVALID',
      `Tensor ${printableName(turned.name)} is in 4-bit codes, which are not read of ${shape.architecture}`,
    );
  }
  const known = new Set(expected.map((tensor) => tensor.name));
  // A tied checkpoint may carry the head a second time.
  if (shape.names.head !== null) known.add(`${shape.names.head}.weight`);
  for (const name of [...source.tensors.keys(), ...(source.unsupported?.keys() ?? [])]) {
    if (
      known.has(name) ||
      source.needless?.has(name) ||
      shape.names.ignored.some((pattern) => pattern.test(name))
    )
      continue;
    throw new ServingError(
      'CHECKPOINT_INVALID',
      `Tensor ${printableName(name)} has no place in ${shape.architecture} with this config.json`,
    );
  }
}

/** Rows compared at a time. */
const COMPARED_ROWS = 1024;

/** transformers 4 takes the embedding for the head all the same, transformers 5 keeps such a head: which is meant no file says. */
function checkHeadIsEmbedding(shape: ModelShape, source: TensorSource): void {
  const { names, tiedHead, vocabSize } = shape;
  if (!tiedHead || names.head === null) return;
  const [head, embedding] = [`${names.head}.weight`, embeddingName(shape)];
  if (!source.tensors.has(head)) return;
  for (let row = 0; row < vocabSize; row += COMPARED_ROWS) {
    const end = Math.min(row + COMPARED_ROWS, vocabSize);
    const own = source.readFloat32(head, row, end);
    const shared = source.readFloat32(embedding, row, end);
    if (own.every((value, index) => value === shared[index])) continue;
    throw new ServingError(
      'CHECKPOINT_INVALID',
      `config.json says tie_word_embeddings: true, but ${printableName(head)} differs from ${printableName(embedding)}: set it to ` +
        'false, if the head is meant, or take the head out of the checkpoint',
    );
  }
}
