/**
 * Which models and workflows load at start.
 *
 * In      load_models (`ALL`, `NONE` or entries), the model store, a server-wide option.model_id (HF_MODEL_ID)
 * Out     an entry a model, in order: folders that exist, and what must be fetched or unpacked first; of a model of Triton's repository an
 *         entry a version that its policy allows; an entry a workflow: a folder of one, a .war, a URL that ends in workflow.json, .yml or .yaml
 * Limits  MAX_MODELS; entries are `[name[:version[:engine[:devices]]]=]url`, brackets around the name allowed
 * Errors  Problems: a URL of another scheme, a folder or archive that is not there, the same name and version twice
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { isGgufFile, isLaterGgufPart } from '../../proto/gguf-folder.js';
import { isModelFolder } from '../../proto/model-files.js';
import type { ModelRegistration, ServerConfig, WorkflowEntry } from './config.js';
import { argumentLayer, type Setting } from './layers.js';
import { hubUrl, type ModelEntry, modelNameOf, placeOf } from './model-config.js';
import { foreignFile, WHAT_A_MODEL_IS } from './no-model.js';
import type { Problems } from './problems.js';
import { tritonVersions } from './triton-model.js';
import { isWorkflowFolder } from './workflow-folder.js';

/** A host holds a few models; more folders than this are a mistaken model_store. */
const MAX_MODELS = 256;

/** A name stands in a path: /predictions/NAME. */
const MODEL_NAME = /^[\w.-]{1,128}$/;

const isFolder = (at: string): boolean => statSync(at, { throwIfNoEntry: false })?.isDirectory() ?? false;

const WORKFLOW = /\.war$|\/workflow\.(?:json|ya?ml)$/i;
const ARCHIVE = /\.(?:tar\.gz|tgz|tar|zip|mar)$/i;

/** Models to load at start: those whose folder is there, and those that must be fetched or unpacked first. */
export interface StartupModels {
  readonly local: ModelEntry[];
  readonly remote: ModelRegistration[];
  readonly workflows: WorkflowEntry[];
}

/** What a folder holds, but for what operating systems leave in it. */
const contentOf = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => !/^(?:\..*|__MACOSX)$/.test(name))
    .sort()
    .map((name) => path.join(folder, name));

/** The model of a folder: itself, the only folder in it, or (to be unpacked) the only archive in it; null: none of these. */
function modelIn(folder: string): { folder: string } | { archiveIn: string } | null {
  if (isModelFolder(folder)) return { folder };
  const content = contentOf(folder);
  const only = content.length === 1 ? content[0]! : null;
  if (only === null) return null;
  if (isFolder(only)) return isModelFolder(only) ? { folder: only } : null;
  return ARCHIVE.test(only) ? { archiveIn: folder } : null;
}

/**
 * Every folder with a model in the store, every GGUF file and every archive, by name; or the store itself if it is a model.
 *
 * @param serverFiles properties of the server: a store they lie in is no model for that
 */
function addModelsOfStore(
  store: string,
  serverFiles: readonly string[],
  models: StartupModels,
  problems: Problems,
): void {
  const own = path.join(store, 'serving.properties');
  const isItself =
    existsSync(path.join(store, 'config.json')) || (existsSync(own) && !serverFiles.includes(own));
  for (const at of isItself ? [store] : contentOf(store)) {
    if (isLaterGgufPart(at)) continue;
    if (isFolder(at) ? isWorkflowFolder(at) : WORKFLOW.test(at)) {
      models.workflows.push({ name: null, url: at });
      continue;
    }
    const found = isFolder(at) || isGgufFile(at) ? modelIn(at) : ARCHIVE.test(at) ? { archiveIn: at } : null;
    if (found === null) {
      // Other folders may lie there; one with weights is meant.
      const foreign = isFolder(at) ? foreignFile(at) : '';
      if (foreign !== '') problems.warn(`model_store: ${at} is no model: ${foreign}. ${WHAT_A_MODEL_IS}`);
      continue;
    }
    if ('folder' in found) models.local.push(...versionsOf(entryOfFolder(found.folder, 'model_store')));
    else {
      const url = found.archiveIn;
      models.remote.push({
        name: null,
        version: null,
        url,
        where: 'model_store',
        byOperator: true,
        arguments: {},
      });
    }
  }
}

/** `name:version:engine:devices=path`; every field but the path may be missing. */
function parseEntry(text: string): { endpoint: string[]; url: string } {
  const match = /^(?:\[?([^=?\]]+)\]?=)?(.+)$/.exec(text);
  return { endpoint: match?.[1]?.split(':') ?? [], url: match?.[2] ?? text };
}

/** The workflow's place; null: it is none. @param folder where the entry points on this host; null: elsewhere */
function workflowOf(url: string, folder: string | null, store: string): string | null {
  if (folder === null) return WORKFLOW.test(url) ? url : null;
  const at = [folder, path.resolve(store, url)].find((one) => existsSync(one));
  if (at === undefined) return null;
  return (isFolder(at) ? isWorkflowFolder(at) : WORKFLOW.test(at)) ? at : null;
}

/** Adds the model of a load_models entry. */
function addEntry(text: string, store: string, cwd: string, models: StartupModels, problems: Problems): void {
  const { endpoint, url } = parseEntry(text);
  const [name, version, engine, devices, surplus] = endpoint;
  const where = `load_models entry ${text}`;
  if (surplus !== undefined) {
    problems.error(`${where}: at most name:version:engine:devices may stand before the =`);
    return;
  }
  if (name && !MODEL_NAME.test(name)) {
    problems.error(`${where}: the name ${name} may hold letters, digits, _, . and - only, at most 128`);
    return;
  }
  const place = placeOf(url, cwd);
  if ('refused' in place) {
    problems.error(`${where}: ${place.refused}`);
    return;
  }
  const given = { engine: engine || null, load_on_devices: devices || null };
  const known = { name: name || null, version: version || null, where };
  const remote = (from: string): void => {
    const used = Object.entries(given).filter((entry): entry is [string, string] => entry[1] !== null);
    models.remote.push({ ...known, url: from, byOperator: true, arguments: Object.fromEntries(used) });
  };
  const workflow = workflowOf(url, 'fetched' in place ? null : place.folder, store);
  if (workflow !== null) {
    if (version || engine || devices)
      problems.error(`${where}: a workflow has a name only; its file says the rest`);
    models.workflows.push({ name: known.name, url: workflow });
    return;
  }
  if ('fetched' in place) {
    remote(url);
    return;
  }
  const candidates = [...new Set([place.folder, path.resolve(store, url)])];
  const folder = candidates.find((at) => isFolder(at) || isGgufFile(at));
  const archive = candidates.find((at) => ARCHIVE.test(at) && existsSync(at));
  const found = folder === undefined ? null : modelIn(folder);
  if (found !== null && 'archiveIn' in found) remote(found.archiveIn);
  else if (folder !== undefined) {
    models.local.push(
      ...versionsOf({
        ...known,
        // A model in the only folder of a folder has the name of the outer one.
        name: known.name ?? modelNameOf(folder),
        folder: found?.folder ?? folder,
        registration: argumentLayer(given, where, cwd),
      }),
    );
  } else if (archive !== undefined) remote(archive);
  else {
    const fromHub = hubUrl(url, null);
    const isThere = (owner: string): boolean => [cwd, store].some((at) => isFolder(path.resolve(at, owner)));
    const [owner, surely] = url.split('/');
    // Whoever names a folder that is there means a path.
    if (fromHub !== null && surely !== undefined && !isThere(owner!)) remote(fromHub);
    else {
      const hub = fromHub === null ? '' : `; a model of the hub is given as ${fromHub}`;
      const file = candidates.find((at) => existsSync(at));
      problems.error(
        file === undefined
          ? `${where}: there is no folder or archive ${candidates.join(' or ')}${hub}`
          : `${where}: ${file} is a file and no archive or GGUF: name the folder that it lies in`,
      );
    }
  }
}

/** Adds the model that a server-wide option.model_id names. */
function addModelId(
  modelId: Setting,
  revision: Setting | undefined,
  cwd: string,
  models: StartupModels,
  problems: Problems,
): void {
  const where = `${modelId.where}: ${modelId.given}`;
  const text = modelId.value as string;
  const place = placeOf(text, cwd);
  const remote = (url: string): void => {
    models.remote.push({ name: null, version: null, url, where, byOperator: true, arguments: {} });
  };
  if ('refused' in place) problems.error(`${where} is ${modelId.text}: ${place.refused}`);
  else if ('fetched' in place) remote(text);
  else if (isFolder(place.folder) || isGgufFile(place.folder))
    models.local.push(entryOfFolder(place.folder, where));
  else {
    const fromHub = hubUrl(text, (revision?.value as string | undefined) ?? null);
    if (existsSync(place.folder) && ARCHIVE.test(place.folder)) remote(place.folder);
    else if (fromHub !== null) remote(fromHub);
    else problems.error(`${where} is ${modelId.text}: there is no folder ${place.folder}`);
  }
}

const entryOfFolder = (folder: string, where: string): ModelEntry & { folder: string } => ({
  name: null,
  version: null,
  folder,
  where,
  registration: [],
});

/** Itself, or one of each version that a model of Triton's repository is to be served in. */
function versionsOf(entry: ModelEntry & { folder: string }): ModelEntry[] {
  const versions = entry.version === null ? tritonVersions(entry.folder) : [];
  return versions.length < 2 ? [entry] : versions.map((version) => ({ ...entry, version }));
}

/**
 * @param serverFiles properties files of the server, absolute
 * @param settings of every model; a server-wide option.model_id is one more model, or the only one when load_models is not given
 */
export function startupModels(
  server: ServerConfig,
  loadModelsGiven: boolean,
  settings: ReadonlyMap<string, Setting>,
  serverFiles: readonly string[],
  cwd: string,
  problems: Problems,
): StartupModels {
  const models: StartupModels = { local: [], remote: [], workflows: [] };
  const { loadModels, modelStore } = server;
  const modelId = settings.get('modelId');
  if (typeof modelId?.value === 'string') {
    addModelId(modelId, settings.get('revision'), cwd, models, problems);
    if (!loadModelsGiven) return models;
  }
  if (Array.isArray(loadModels)) {
    for (const text of loadModels) addEntry(text, modelStore, cwd, models, problems);
  } else if (loadModels === 'ALL') {
    if (!isFolder(modelStore)) problems.error(`model_store: there is no folder ${modelStore}`);
    else addModelsOfStore(modelStore, serverFiles, models, problems);
  }
  const count = models.local.length + models.remote.length + models.workflows.length;
  if (count > MAX_MODELS) {
    problems.error(`load_models: ${count} models were found, at most ${MAX_MODELS} are loaded`);
    return { local: [], remote: [], workflows: [] };
  }
  const seen = new Set<string>();
  for (const entry of [...models.local, ...models.remote]) {
    const place =
      'folder' in entry ? (entry.folder ?? '') : entry.url.replace(/\/+$/, '').replace(ARCHIVE, '');
    // What a URL is called, the model store alone knows for certain.
    if (!('folder' in entry) && entry.name === null && /^\w+:/.test(entry.url)) continue;
    const id = `${entry.name ?? modelNameOf(place)}${entry.version ? `:${entry.version}` : ''}`;
    if (seen.has(id)) problems.error(`${entry.where}: there is already a model named ${id}`);
    seen.add(id);
  }
  return models;
}
