/**
 * Which family a checkpoint is of.
 *
 * In      config.json's `architectures`, else its `model_type`
 * Out     the ModelShape its family reads
 * Errors  ServingError CHECKPOINT_INVALID naming the architecture and listing the known ones
 * How     every file of this folder that exports `family` is one: a new family is one new file and no line elsewhere
 */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ServingError } from '../../proto/errors.js';
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import type { ModelShape } from '../plan/model-shape.js';
import { asEmbedder, generatorConfig, generatorsOf, wantsHidden } from './decoder-embedder.js';
import type { Family } from './decoder-shape.js';

/** @throws ServingError CHECKPOINT_INVALID: no known family, or one that cannot read this config.json */
export async function readModelShape(config: CheckpointConfig): Promise<ModelShape> {
  const found = await findFamily(config);
  if (found === null) throw await unknownArchitecture(config);
  return found.shape(config);
}

/** @returns null: no family answers to this config.json */
export async function findFamily(config: CheckpointConfig): Promise<Family | null> {
  const families = await loadFamilies();
  const architectures = config.strings('architectures', []);
  const modelType = config.nullableString('model_type');
  const named = (names: readonly string[]): Family | undefined =>
    families.find((family) => family.architectures.some((name) => names.includes(name)));
  const found =
    architectures.length > 0
      ? named(architectures)
      : families.find((family) => modelType !== null && family.modelTypes.includes(modelType));
  if (!wantsHidden(config)) return found ?? null;
  const decoder = found ?? named(generatorsOf(config));
  return decoder === undefined ? null : { ...decoder, shape: embedderOf(decoder) };
}

/** An encoder has its own shape, a decoder the one whose hidden states are wanted. */
const embedderOf =
  (family: Family): Family['shape'] =>
  (config) => {
    const shape = family.shape(generatorConfig(config));
    return shape.embedding === null ? asEmbedder(shape, config) : shape;
  };

/** CHECKPOINT_INVALID that lists the known ones. */
export async function unknownArchitecture(config: CheckpointConfig): Promise<ServingError> {
  const families = await loadFamilies();
  const architectures = config.strings('architectures', []);
  const modelType = config.nullableString('model_type');
  const given = architectures.length > 0 ? architectures.join(', ') : `model_type ${modelType ?? 'absent'}`;
  const known = families.flatMap((family) => family.architectures).sort();
  return new ServingError(
    'CHECKPOINT_INVALID',
    `${config.where}: architecture ${given} is not known; known are ${known.join(', ')}; another may be recognised by its tensors`,
  );
}

let loaded: Promise<Family[]> | undefined;

/** All families of this folder, by file name. */
export function loadFamilies(): Promise<Family[]> {
  loaded ??= importFamilies();
  return loaded;
}

async function importFamilies(): Promise<Family[]> {
  const self = fileURLToPath(import.meta.url);
  const folder = new URL('./', import.meta.url);
  const files = readdirSync(folder)
    .filter((file) => file.endsWith('.js') && !self.endsWith(`/${file}`))
    .sort();
  const modules = await Promise.all(
    files.map(async (file): Promise<{ family?: Family }> => import(new URL(file, folder).href)),
  );
  return modules.flatMap((module) => (module.family ? [module.family] : []));
}
