/**
 * One model's configuration, from its layers.
 *
 * In      layers, the strongest last: server-wide files, environment, the model's serving.properties, registration arguments
 * Out     a frozen ModelConfig
 * Errors  Problems: what applyLayers finds, batch_size above 1 together with rolling batch, two different quantisations,
 *         a folder without config.json and GGUF, a model.py that says more than is read, a fetched model's handler that nobody trusts
 */
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { withoutGgufEnding } from '../../proto/gguf-folder.js';
import { HANDLER_FILES, hasCheckpoint } from '../../proto/model-files.js';
import type { ModelConfig } from './config.js';
import { unknownEngine } from './engine-names.js';
import { foreignModel } from './foreign-model.js';
import type { ModelFields } from './key-row.js';
import { defaultsOf } from './key-table.js';
import { applyLayers, argumentLayer, fileLayer, type Layer, type Setting } from './layers.js';
import { type ModelTrust, trustedLayer } from './model-trust.js';
import { foreignFile, WHAT_A_MODEL_IS } from './no-model.js';
import type { Problems } from './problems.js';
import { PYTHON_FILE } from './python/python-model.js';

/** What is known of a model before its keys are read. */
export interface ModelEntry {
  /** null: made from the folder's name. */
  readonly name: string | null;
  readonly version: string | null;
  /** Absolute; null: it is not there yet. */
  readonly folder: string | null;
  /** Where it was fetched from; absent: the folder. */
  readonly url?: string;
  /** Where what it lies in was fetched from; absent: it lies in nothing else. */
  readonly source?: string | undefined;
  /** Absent: the operator's. */
  readonly trust?: ModelTrust;
  /** Who named it, for messages. */
  readonly where: string;
  /** Arguments of the registration; the strongest layer. */
  readonly registration: Layer;
}

/** DJLServing's rule: what is no letter, digit or underscore becomes an underscore. */
export function modelNameOf(folder: string): string {
  return withoutGgufEnding(path.basename(folder)).replace(/\W/g, '_');
}

const shown = ({ where, given, text }: Setting): string => `${given}=${text} (${where})`;

const FETCHED_SCHEMES = ['http', 'https', 's3', 'hf'];
const HUB_ID = /^[A-Za-z0-9][\w.-]*(?:\/[A-Za-z0-9][\w.-]*)?(?::[\w.-]+)?(?:@[\w./-]+)?$/;

/**
 * Where a path or URL leads.
 *
 * @returns the absolute path; `fetched`, when the model store must fetch it first; or a sentence why it is neither
 */
export function placeOf(
  url: string,
  baseFolder: string,
): { folder: string } | { fetched: true } | { refused: string } {
  if (url.startsWith('file:')) {
    try {
      return { folder: fileURLToPath(url) };
    } catch (error) {
      return { refused: `${url} is no file URL of this host: ${(error as Error).message}` };
    }
  }
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(url)?.[1]?.toLowerCase();
  if (scheme === undefined) return { folder: path.resolve(baseFolder, url) };
  if (FETCHED_SCHEMES.includes(scheme)) return { fetched: true };
  return {
    refused: `models of ${scheme}:// are not fetched; a path, file, ${FETCHED_SCHEMES.join(', ')} are`,
  };
}

/** One whose model.py is not read is told of that. */
const isLanguageModel = (folder: string): boolean =>
  hasCheckpoint(folder) || existsSync(path.join(folder, PYTHON_FILE));

/** The hub id that a text means when there is no such path, at a revision; null: it can be none. */
export function hubUrl(text: string, revision: string | null): string | null {
  const id = text.replace(/^hf:\/\//, '');
  if (!HUB_ID.test(id)) return null;
  return revision === null || id.includes('@') ? `hf://${id}` : `hf://${id}@${revision}`;
}

/** Where the checkpoint is: the model folder itself, or the one that its option.model_id names, or what must be fetched. */
function checkpointOf(
  entry: ModelEntry,
  settings: Map<string, Setting>,
  engine: ModelConfig['engine'],
  problems: Problems,
): { folder: string; checkpointUrl: string | null } {
  const own = { folder: entry.folder ?? '', checkpointUrl: null };
  // Its code is its own folder's, wherever its weights are.
  if (engine === 'handler') return own;
  const modelId = settings.get('modelId');
  if (typeof modelId?.value !== 'string') {
    if (entry.folder !== null && engine === 'llm' && !isLanguageModel(entry.folder)) {
      const held = existsSync(entry.folder) ? foreignFile(entry.folder) : '';
      const foreign = held === '' ? '' : `; ${held}`;
      problems.error(
        `${entry.where}: there is no config.json in ${entry.folder}, and no .gguf and no .onnx file${foreign}. ${WHAT_A_MODEL_IS}`,
      );
    }
    return own;
  }
  if (entry.folder === null) return own;
  const shownId = `${modelId.where}: ${modelId.given} is ${modelId.text}`;
  const revision = (settings.get('revision')?.value as string | undefined) ?? null;
  const place = placeOf(modelId.value, entry.folder);
  if ('refused' in place) {
    problems.error(`${shownId}: ${place.refused}`);
    return own;
  }
  if ('fetched' in place) {
    const url = modelId.value;
    return { folder: '', checkpointUrl: url.startsWith('hf:') ? (hubUrl(url, revision) ?? url) : url };
  }
  if (hasCheckpoint(place.folder)) return { folder: place.folder, checkpointUrl: null };
  const fromHub = existsSync(place.folder) ? null : hubUrl(modelId.value, revision);
  if (fromHub !== null) return { folder: '', checkpointUrl: fromHub };
  problems.error(
    `${shownId}: there is no config.json in ${place.folder}, and it is neither a URL nor the id of a model of the hub`,
  );
  return own;
}

/** A folder that is not there yet is a language model's until its files are seen. */
function engineOf(folder: string | null): ModelConfig['engine'] {
  if (folder === null || !existsSync(folder)) return 'llm';
  if (HANDLER_FILES.some((name) => existsSync(path.join(folder, name)))) return 'handler';
  if (hasCheckpoint(folder)) return 'llm';
  return readdirSync(folder).some((name) => name.endsWith('.onnx')) ? 'onnx' : 'llm';
}

function checkEngine(
  given: Setting | undefined,
  engine: string,
  engines: readonly string[],
  problems: Problems,
): void {
  const expected = given === undefined ? null : unknownEngine(engine, engines);
  if (given === undefined || expected === null) return;
  const name = given.given === 'engine' ? 'engine' : `${given.given} (engine)`;
  problems.error(`${given.where}: ${name} is ${given.text}; it must be ${expected}`);
}

/** `batch_size` above 1 asks for dynamic batching, unless rolling batch was asked for: then both cannot be. */
function chooseBatching(
  fields: ModelFields,
  settings: Map<string, Setting>,
  problems: Problems,
): ModelConfig['batching'] {
  // LMI's newer handler is told so, and its engine batches as it likes.
  if (fields.rollingBatch === 'disabled' && !fields.asyncMode) return 'dynamic';
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

/** An archive of this host is its operator's, as a folder is. */
function refuseRemoteCode(
  { folder, source, trust, url = '', where }: ModelEntry,
  { entryPoint, trustRemoteCode }: ModelFields,
  problems: Problems,
): void {
  // TorchServe's own handlers come with the server; a pipeline pack holds code.
  const isOwn = entryPoint?.startsWith('builtin:') === true && entryPoint !== 'builtin:pipeline';
  const isRemote = !isOwn && trust === 'fetched' && 'fetched' in placeOf(source ?? url, folder ?? '.');
  if (isRemote && !trustRemoteCode) {
    problems.error(
      `${where}: the model has a handler, code that came from elsewhere: it runs only where the operator has set option.trust_remote_code=true for all models`,
    );
  }
}

/** GPUs that load_on_devices names are CUDA's. */
function deviceOf(
  { device, loadOnDevices }: ModelFields,
  where: string,
  problems: Problems,
): ModelConfig['device'] {
  if (loadOnDevices?.length === 0) return 'cpu';
  if (loadOnDevices !== null && device !== 'cuda') {
    problems.error(
      `${where}: load_on_devices names GPU ${loadOnDevices.join(', ')}, but the model is computed on ${device === 'auto' ? 'the CPU' : device}: set option.device=cuda`,
    );
  }
  return device;
}

/** One group unless told otherwise; the least is never above the most (DJLServing). */
export function groupLimits(
  min: number | null,
  max: number | null,
): { minGroups: number; maxGroups: number } {
  const maxGroups = max ?? Math.max(1, min ?? 1);
  return { minGroups: Math.min(min ?? 1, maxGroups), maxGroups };
}

/** What every model of a server is read with. */
export interface ModelContext {
  /** Layers of all models, the strongest last. */
  readonly shared: readonly Layer[];
  /** Names of the engines that there are. */
  readonly engines: readonly string[];
  /** Messages show paths from here. */
  readonly cwd: string;
}

export function resolveModel(
  entry: ModelEntry,
  { cwd, engines, shared }: ModelContext,
  problems: Problems,
): ModelConfig {
  const ownFile = entry.folder === null ? null : path.join(entry.folder, 'serving.properties');
  const own =
    ownFile !== null && existsSync(ownFile)
      ? trustedLayer(
          fileLayer(ownFile, 'model', cwd, problems),
          entry.folder!,
          entry.trust ?? 'operator',
          shared,
          problems,
        )
      : [];
  const foreign =
    entry.folder === null ? null : foreignModel(entry.folder, entry.version, entry.where, problems);
  const layout = trustedLayer(
    argumentLayer(foreign?.values ?? {}, entry.where, entry.folder ?? cwd),
    entry.folder ?? cwd,
    entry.trust ?? 'operator',
    shared,
    problems,
  );
  // A server-wide option.model_id names one more model, not the checkpoint of every model.
  const defaults = shared.map((layer) => layer.filter(({ row }) => row.name !== 'option.model_id'));
  const settings = applyLayers([...defaults, layout, own, entry.registration], 'model', problems);
  const fields = defaultsOf('model') as unknown as ModelFields;
  for (const [field, { value }] of settings) Object.assign(fields, { [field]: value });

  const engine = fields.engineName ?? engineOf(entry.folder);
  checkEngine(settings.get('engineName'), engine, engines, problems);
  const batching = chooseBatching(fields, settings, problems);
  const dtype = chooseDtype(fields, settings, problems);
  const { checkpointUrl, folder } = checkpointOf(entry, settings, engine, problems);
  const handler = path.join(folder, 'model.py');
  if (engine === 'llm' && folder !== '' && folder !== entry.folder && existsSync(handler)) {
    problems.error(`${entry.where}: ${handler} is a custom Python handler, which cannot run here`);
  }
  if (engine === 'handler') refuseRemoteCode(entry, fields, problems);
  const {
    engineName: _given,
    rollingBatch,
    quantize,
    modelId,
    revision,
    minWorkers,
    maxWorkers,
    cpuMinWorkers,
    cpuMaxWorkers,
    gpuMinWorkers,
    gpuMaxWorkers,
    loadOnDevices,
    ...rest
  } = fields;
  const device = deviceOf(fields, entry.where, problems);
  const onGpus = device === 'cuda';
  const [least, most] = onGpus
    ? [gpuMinWorkers ?? minWorkers, gpuMaxWorkers ?? maxWorkers]
    : [cpuMinWorkers ?? minWorkers, cpuMaxWorkers ?? maxWorkers];
  const config: ModelConfig = {
    ...rest,
    ...groupLimits(least, most),
    device,
    fillDevices: onGpus && most === null && least === null,
    gpus: onGpus ? loadOnDevices : null,
    name: entry.name ?? modelNameOf(entry.folder ?? entry.url ?? 'model'),
    version: entry.version,
    url: entry.url ?? entry.folder ?? '',
    folder,
    checkpointUrl,
    engine,
    dtype,
    batching,
    modelFile: foreign?.modelFile ?? null,
    ...(foreign?.repository && { repository: foreign.repository }),
    predictor: (engine === 'llm' ? foreign?.predictor : undefined) ?? null,
    boundModel: null,
  };
  return Object.freeze({ ...config, boundModel: boundModelOf(config, entry, settings, problems) });
}

/** What a handler's code asks: the checkpoint that option.model_id names, or that lies beside it. */
function boundModelOf(
  config: ModelConfig,
  entry: ModelEntry,
  settings: Map<string, Setting>,
  problems: Problems,
): ModelConfig | null {
  const isNamed = typeof settings.get('modelId')?.value === 'string';
  if (config.engine !== 'handler' || entry.folder === null) return null;
  if (!isNamed && !holdsCheckpoint(entry.folder)) return null;
  return Object.freeze({
    ...config,
    ...checkpointOf(entry, settings, 'llm', problems),
    ...{ name: `${config.name}.model`, engine: 'llm', entryPoint: null, modelFile: null },
    // Its requests are its handler's, which are batched there.
    ...{ batching: 'rolling', batchSize: 1, minGroups: 1, maxGroups: 1 },
  } as const);
}

const holdsCheckpoint = (folder: string): boolean =>
  existsSync(path.join(folder, 'config.json')) &&
  readdirSync(folder).some((name) => name.endsWith('.safetensors'));
