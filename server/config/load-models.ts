/**
 * Which models load at start.
 *
 * In      load_models (`ALL`, `NONE` or entries), the model store, a server-wide option.model_id (HF_MODEL_ID)
 * Out     an entry a model, in order; the folders exist
 * Limits  MAX_MODELS; entries are `[name[:version[:engine[:devices]]]=]path`, brackets around the name allowed
 * Errors  Problems: other URLs, archives, a folder that is not there, the same name and version twice
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import type { ServerConfig } from './config.js';
import { argumentLayer, type Setting } from './layers.js';
import { localFolder, type ModelEntry, modelNameOf } from './model-config.js';
import type { Problems } from './problems.js';

/** A host holds a few models; more folders than this are a mistaken model_store. */
const MAX_MODELS = 256;

/** A name stands in a path: /predictions/NAME. */
const MODEL_NAME = /^[\w.-]{1,128}$/;

const isFolder = (at: string): boolean => statSync(at, { throwIfNoEntry: false })?.isDirectory() ?? false;

/** Every folder with a config.json or a serving.properties in the store, by name; or the store itself if it is a model. */
function modelsOfStore(store: string): string[] {
  const isModel = (folder: string): boolean =>
    existsSync(path.join(folder, 'config.json')) || existsSync(path.join(folder, 'serving.properties'));
  // The store of an installation may lie beside the server's own serving.properties.
  if (existsSync(path.join(store, 'config.json'))) return [store];
  return readdirSync(store)
    .sort()
    .map((name) => path.join(store, name))
    .filter((folder) => isFolder(folder) && isModel(folder));
}

/** `name:version:engine:devices=path`; every field but the path may be missing. */
function parseEntry(text: string): { endpoint: string[]; url: string } {
  const match = /^(?:\[?([^=?\]]+)\]?=)?(.+)$/.exec(text);
  return { endpoint: match?.[1]?.split(':') ?? [], url: match?.[2] ?? text };
}

function entryOf(text: string, store: string, cwd: string, problems: Problems): ModelEntry | null {
  const { endpoint, url } = parseEntry(text);
  const [name, version, engine, devices, surplus] = endpoint;
  const where = `load_models entry ${text}`;
  if (surplus !== undefined) {
    problems.error(`${where}: at most name:version:engine:devices may stand before the =`);
    return null;
  }
  if (name && !MODEL_NAME.test(name)) {
    problems.error(`${where}: the name ${name} may hold letters, digits, _, . and - only, at most 128`);
    return null;
  }
  const inWorkingFolder = localFolder(url, cwd);
  if ('refused' in inWorkingFolder) {
    problems.error(`${where}: ${inWorkingFolder.refused}`);
    return null;
  }
  const inStore = path.resolve(store, url);
  const folder = [inWorkingFolder.folder, inStore].find(isFolder);
  if (folder === undefined) {
    const isFile = existsSync(inWorkingFolder.folder);
    problems.error(
      isFile
        ? `${where}: ${inWorkingFolder.folder} is a file; archives follow in a later version`
        : `${where}: there is no folder ${[...new Set([inWorkingFolder.folder, inStore])].join(' or ')}`,
    );
    return null;
  }
  const registration = argumentLayer(
    { engine: engine || null, load_on_devices: devices || null },
    where,
    cwd,
  );
  return { name: name || null, version: version || null, folder, where, registration };
}

const entryOfFolder = (folder: string, where: string): ModelEntry => ({
  name: null,
  version: null,
  folder,
  where,
  registration: [],
});

/**
 * @param modelId a server-wide option.model_id: one more model, or the only one when load_models is not given
 */
export function startupModels(
  server: ServerConfig,
  loadModelsGiven: boolean,
  modelId: Setting | undefined,
  cwd: string,
  problems: Problems,
): ModelEntry[] {
  const entries: ModelEntry[] = [];
  const { loadModels, modelStore } = server;
  if (typeof modelId?.value === 'string') {
    const found = localFolder(modelId.value, cwd);
    if ('refused' in found || !isFolder(found.folder)) {
      const reason = 'refused' in found ? found.refused : `there is no folder ${found.folder}`;
      problems.error(
        `${modelId.where}: ${modelId.given} is ${modelId.text}: ${reason}; models are not downloaded in this version`,
      );
    } else {
      entries.push(entryOfFolder(found.folder, `${modelId.where}: ${modelId.given}`));
    }
    if (!loadModelsGiven) return entries;
  }
  if (Array.isArray(loadModels)) {
    for (const text of loadModels) {
      const entry = entryOf(text, modelStore, cwd, problems);
      if (entry) entries.push(entry);
    }
  } else if (loadModels === 'ALL') {
    if (!isFolder(modelStore)) problems.error(`model_store: there is no folder ${modelStore}`);
    else entries.push(...modelsOfStore(modelStore).map((folder) => entryOfFolder(folder, 'model_store')));
  }
  if (entries.length > MAX_MODELS) {
    problems.error(`load_models: ${entries.length} models were found, at most ${MAX_MODELS} are loaded`);
    return [];
  }
  const seen = new Set<string>();
  for (const entry of entries) {
    const id = `${entry.name ?? modelNameOf(entry.folder)}${entry.version ? `:${entry.version}` : ''}`;
    if (seen.has(id)) problems.error(`${entry.where}: there is already a model named ${id}`);
    seen.add(id);
  }
  return entries;
}
