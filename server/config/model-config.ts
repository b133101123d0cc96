/**
 * One model's configuration, from its layers.
 *
 * In      layers, the strongest last: server-wide files, environment, the model's serving.properties, registration arguments
 * Out     a frozen ModelConfig
 * Errors  Problems: what applyLayers finds, batch_size above 1 together with rolling batch, two different quantisations,
 *         a folder without config.json, a folder with a handler of its own (model.py)
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ModelConfig } from './config.js';
import type { ModelFields } from './key-row.js';
import { defaultsOf } from './key-table.js';
import { applyLayers, fileLayer, type Layer, type Setting } from './layers.js';
import type { Problems } from './problems.js';

/** What is known of a model before its keys are read. */
export interface ModelEntry {
  /** null: made from the folder's name. */
  readonly name: string | null;
  readonly version: string | null;
  /** Absolute. */
  readonly folder: string;
  /** Where it was fetched from; absent: the folder. */
  readonly url?: string;
  /** Who named it, for messages. */
  readonly where: string;
  /** Arguments of the registration; the strongest layer. */
  readonly registration: Layer;
}

/** DJLServing's rule: what is no letter, digit or underscore becomes an underscore. */
export function modelNameOf(folder: string): string {
  return path.basename(folder).replace(/\W/g, '_');
}

const shown = ({ where, given, text }: Setting): string => `${given}=${text} (${where})`;

/**
 * A path or file:// URL of a local folder.
 *
 * @returns the absolute path, or a sentence why there is none
 */
export function localFolder(url: string, baseFolder: string): { folder: string } | { refused: string } {
  if (url.startsWith('file:')) {
    try {
      return { folder: fileURLToPath(url) };
    } catch (error) {
      return { refused: `${url} is no file URL of this host: ${(error as Error).message}` };
    }
  }
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(url);
  if (scheme) {
    return {
      refused: `models are read from local folders in this version; ${scheme[1]}:// follows in a later version`,
    };
  }
  return { folder: path.resolve(baseFolder, url) };
}

/** Where the checkpoint is: the model folder itself, or the one that its option.model_id names. */
function checkpointFolder(entry: ModelEntry, modelId: Setting | undefined, problems: Problems): string {
  if (typeof modelId?.value !== 'string') {
    if (!existsSync(path.join(entry.folder, 'config.json'))) {
      problems.error(`${entry.where}: there is no config.json in ${entry.folder}`);
    }
    return entry.folder;
  }
  const found = localFolder(modelId.value, entry.folder);
  if ('refused' in found) {
    problems.error(`${modelId.where}: ${modelId.given} is ${modelId.text}: ${found.refused}`);
    return entry.folder;
  }
  if (!existsSync(path.join(found.folder, 'config.json'))) {
    problems.error(
      `${modelId.where}: ${modelId.given} is ${modelId.text}: there is no config.json in ${found.folder}; ` +
        'models are not downloaded in this version, so it must be the path of a checkpoint',
    );
  }
  return found.folder;
}

/** `batch_size` above 1 asks for dynamic batching, unless rolling batch was asked for: then both cannot be. */
function chooseBatching(
  fields: ModelFields,
  settings: Map<string, Setting>,
  problems: Problems,
): ModelConfig['batching'] {
  if (fields.rollingBatch === 'disabled') return 'dynamic';
  if (fields.batchSize === 1) return 'rolling';
  const rollingBatch = settings.get('rollingBatch');
  const batchSize = settings.get('batchSize');
  if (fields.rollingBatch === 'rolling' && rollingBatch && batchSize) {
    problems.error(
      `${batchSize.where}: ${shown(batchSize)} asks for dynamic batching and ${shown(rollingBatch)} for rolling batch; ` +
        'give batch_size=1 or option.rolling_batch=disable',
    );
  }
  return 'dynamic';
}

function chooseDtype(
  fields: ModelFields,
  settings: Map<string, Setting>,
  problems: Problems,
): ModelConfig['dtype'] {
  if (fields.quantize === null) return fields.dtype;
  const dtype = settings.get('dtype');
  const quantize = settings.get('quantize');
  const isOtherInteger = fields.dtype.startsWith('int') && fields.dtype !== fields.quantize;
  if (isOtherInteger && dtype && quantize) {
    problems.error(`${quantize.where}: ${shown(quantize)} contradicts ${shown(dtype)}; give one of them`);
  }
  return fields.quantize;
}

/** One group unless told otherwise; the least is never above the most (DJLServing). */
export function groupLimits(
  min: number | null,
  max: number | null,
): { minGroups: number; maxGroups: number } {
  const maxGroups = max ?? Math.max(1, min ?? 1);
  return { minGroups: Math.min(min ?? 1, maxGroups), maxGroups };
}

/**
 * @param shared layers of all models, the strongest last
 * @param cwd messages show paths from here
 */
export function resolveModel(
  entry: ModelEntry,
  shared: readonly Layer[],
  cwd: string,
  problems: Problems,
): ModelConfig {
  const ownFile = path.join(entry.folder, 'serving.properties');
  const own = existsSync(ownFile) ? fileLayer(ownFile, 'model', cwd, problems) : [];
  // A server-wide option.model_id names one more model, not the checkpoint of every model.
  const defaults = shared.map((layer) => layer.filter(({ row }) => row.name !== 'option.model_id'));
  const settings = applyLayers([...defaults, own, entry.registration], 'model', problems);
  const fields = defaultsOf('model') as unknown as ModelFields;
  for (const [field, { value }] of settings) Object.assign(fields, { [field]: value });

  const batching = chooseBatching(fields, settings, problems);
  const dtype = chooseDtype(fields, settings, problems);
  const folder = checkpointFolder(entry, settings.get('modelId'), problems);
  const handler = [entry.folder, folder]
    .map((at) => path.join(at, 'model.py'))
    .find((file) => existsSync(file));
  if (handler) {
    problems.error(`${entry.where}: ${handler} is a custom Python handler, which cannot run here`);
  }
  const { rollingBatch, quantize, modelId, minWorkers, maxWorkers, cpuMinWorkers, cpuMaxWorkers, ...rest } =
    fields;
  return Object.freeze({
    ...rest,
    ...groupLimits(cpuMinWorkers ?? minWorkers, cpuMaxWorkers ?? maxWorkers),
    name: entry.name ?? modelNameOf(entry.folder),
    version: entry.version,
    url: entry.url ?? entry.folder,
    folder,
    dtype,
    batching,
  });
}
