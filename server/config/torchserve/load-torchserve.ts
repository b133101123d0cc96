/**
 * Reads TorchServe's configuration: config.properties or a snapshot, TS_ variables, flags; and makes the server's Config of it.
 *
 * The strongest first: TS_ variables (with enable_envvars_config), flags, the file, TorchServe's defaults. Keys of this server (KEYS.md)
 * may stand in the file, too; its environment and a serving.properties of the working folder count as always.
 *
 * In      arguments after `torchserve`, environment, working folder
 * Out     Config, with `torchServe`
 * Limits  MAX_FILE_BYTES a file; $$NAME$$ stands for a variable of the environment
 * Errors  CONFIG_INVALID with every problem found
 * Source  TorchServe's configuration
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { MODEL_FILES } from '../../../proto/model-files.js';
import type { Config, ListenAddress, WorkflowEntry } from '../config.js';
import { findKey, nearestKey } from '../key-table.js';
import { type Entry, isAccepted, type Layer } from '../layers.js';
import { type ConfigSources, loadConfig } from '../load-config.js';
import { nearestName } from '../nearest-name.js';
import { Problems } from '../problems.js';
import { MAX_FILE_BYTES, parseProperties } from '../properties-file.js';
import type { StartupEntry, TorchServeConfig, TorchServeSettings } from './torchserve-config.js';
import { parseTorchServeFlags, type TorchServeFlags } from './torchserve-flags.js';
import {
  defaultSettings,
  findTorchServeKey,
  TORCHSERVE_DEFAULTS,
  TORCHSERVE_KEYS,
} from './torchserve-keys.js';

const ARCHIVE = /\.(?:mar|model|zip|tar|tgz|tar\.gz)$/i;
const WORKFLOW = /\.war$/i;
const SNAPSHOT = /^\d{17}-(?:startup|snapshot|shutdown)\.cfg$/;

/** Keys whose value is a path. */
const PATHS = [
  ...['keystore', 'private_key_file', 'certificate_file'],
  ...['model_store', 'workflow_store'],
  'metrics_config',
  'shard_store',
  'download_dir',
  'log_folder',
  'key_file',
];

/** A key as somebody has given it. */
interface Given {
  key: string;
  text: string;
  where: string;
  baseFolder: string;
}

/** @throws ServingError CONFIG_INVALID */
export function loadTorchServe(sources: ConfigSources): Config {
  const { argv, cwd, env } = sources;
  const problems = new Problems();
  const flags = parseTorchServeFlags(argv);
  const logFolder = path.resolve(cwd, env.LOG_LOCATION || 'logs');
  const file = configFileOf(flags, env, cwd, logFolder, problems);
  const inFile = file === null ? [] : propertiesOf(file, env, cwd, problems);
  const reads = inFile.findLast(({ key }) => key === 'enable_envvars_config')?.text.toLowerCase() === 'true';
  const inEnvironment = reads ? environmentOf(env, cwd, inFile) : [];
  const given = [...inFile, ...flagsOf(flags, cwd), ...inEnvironment];
  const settings = defaultSettings();
  const layer: Entry[] = [];
  for (const one of given) apply(one, settings, layer, problems);
  const ours = new Map(layer.map((entry) => [entry.row.name, entry]));
  if (!ours.has('model_store'))
    problems.error('model_store: say where the models are, by --model-store or in config.properties');
  problems.throwIfAny();
  const defaults = entriesOf(
    { ...TORCHSERVE_DEFAULTS, ...accessOf(settings, ours), load_models: 'NONE' },
    cwd,
  );
  const config = loadConfig({ ...sources, argv: [], layer: [...defaults, ...layer] });
  const startupModels = startupOf(settings, config.server.modelStore, problems);
  const workflowStore = settings.workflowFolder ?? config.server.modelStore;
  const workflows = workflowsOf(settings, workflowStore, problems);
  problems.throwIfAny();
  const torchServe: TorchServeConfig = Object.freeze({
    ...settings,
    grpcInferenceAddress: addressOf(settings.grpcInferenceHost, settings.grpcInferencePort, settings.grpcTls),
    grpcManagementAddress: addressOf(
      settings.grpcManagementHost,
      settings.grpcManagementPort,
      settings.grpcTls,
    ),
    keyFile: path.join(cwd, 'key_file.json'),
    noSnapshots: flags.noSnapshots,
    logFolder,
    workflowStore,
    metricsFolder: path.resolve(cwd, env.METRICS_LOCATION || 'logs'),
    startupModels,
    given: Object.fromEntries(
      given.flatMap(({ baseFolder, key, text }) => {
        if (isSecret(key) || key === 'model_snapshot') return [];
        // A snapshot lies in another folder.
        return [[key, PATHS.includes(key) ? path.resolve(baseFolder, text) : text]];
      }),
    ),
  });
  return Object.freeze({
    ...config,
    torchServe,
    workflows,
    warnings: [...config.warnings, ...problems.warnings],
  });
}

/** Which file says it; null: none. */
function configFileOf(
  { noSnapshots, tsConfig }: TorchServeFlags,
  env: ConfigSources['env'],
  cwd: string,
  logFolder: string,
  problems: Problems,
): string | null {
  const named = env.TS_CONFIG_FILE || tsConfig;
  if (named) {
    const file = path.resolve(cwd, named);
    if (existsSync(file)) return file;
    problems.error(`${env.TS_CONFIG_FILE ? 'TS_CONFIG_FILE' : '--ts-config'}: there is no file ${file}`);
    return null;
  }
  const own = path.join(cwd, 'config.properties');
  if (existsSync(own)) return own;
  const folder = path.join(logFolder, 'config');
  if (noSnapshots || !existsSync(folder)) return null;
  const newest = readdirSync(folder)
    .filter((name) => SNAPSHOT.test(name))
    .sort()
    .at(-1);
  return newest === undefined ? null : path.join(folder, newest);
}

function propertiesOf(file: string, env: ConfigSources['env'], cwd: string, problems: Problems): Given[] {
  const relative = path.relative(cwd, file);
  const shown = relative.startsWith('..') ? file : relative;
  try {
    const { size } = statSync(file);
    if (size > MAX_FILE_BYTES) throw new Error(`it has ${size} bytes, at most ${MAX_FILE_BYTES} are read`);
    return parseProperties(readFileSync(file, 'utf8')).map(({ key, line, value }) => ({
      key,
      text: value.replace(/\$\$([A-Za-z_]\w*)\$\$/g, (whole, name: string) => env[name] ?? whole),
      where: `${shown}:${line}`,
      baseFolder: path.dirname(file),
    }));
  } catch (error) {
    problems.error(`${shown}: ${(error as Error).message}`);
    return [];
  }
}

/** TS_ and the key in capitals. */
function environmentOf(env: ConfigSources['env'], cwd: string, inFile: readonly Given[]): Given[] {
  const mayAllow =
    inFile.findLast(({ key }) => key === 'use_env_allowed_urls')?.text.toLowerCase() === 'true';
  return TORCHSERVE_KEYS.flatMap(({ name }) => {
    const variable = `TS_${name.replace(/^ts_/, '').toUpperCase()}`;
    const text = env[variable];
    if (text === undefined || text === '' || (name === 'allowed_urls' && !mayAllow)) return [];
    return [{ key: name, text, where: `environment: ${variable}`, baseFolder: cwd }];
  });
}

function flagsOf(flags: TorchServeFlags, cwd: string): Given[] {
  const values: Record<string, string | null> = {
    model_store: flags.modelStore,
    workflow_store: flags.workflowStore,
    load_models: flags.models,
    disable_token_authorization: flags.disableTokens ? 'true' : null,
    enable_model_api: flags.enableModelApi ? 'true' : null,
  };
  return Object.entries(values).flatMap(([key, text]) =>
    text === null ? [] : [{ key, text, where: 'command line', baseFolder: cwd }],
  );
}

const isSecret = (key: string): boolean => findTorchServeKey(key)?.secret ?? findKey(key)?.secret ?? false;

function apply(given: Given, settings: TorchServeSettings, layer: Entry[], problems: Problems): void {
  const { baseFolder, key, text, where } = given;
  const row = findTorchServeKey(key);
  const source = `${where}: ${key}`;
  if (row === null) {
    const own = findKey(key);
    if (own !== null) layer.push({ row: own, given: key, text, where, baseFolder });
    else {
      const nearest =
        nearestName(
          key,
          TORCHSERVE_KEYS.map(({ name }) => name),
        ) ?? nearestKey(key);
      problems.error(`${source} is not a known key${nearest === null ? '' : `; did you mean ${nearest}?`}`);
    }
    return;
  }
  const { status } = row;
  if (status.kind === 'mapped') {
    layer.push({ row: findKey(status.to)!, given: key, text, where, baseFolder });
  } else if (status.kind === 'noEffect') {
    problems.warn(`${source} has no effect here: ${status.reason}`);
  } else if (status.kind === 'refused') {
    if (!isAccepted(text, status.unless))
      problems.error(`${source}=${text.slice(0, 100)}: ${status.because}`);
  } else {
    const outcome = status.type.parse(text, baseFolder);
    if ('problem' in outcome)
      problems.error(
        `${source} is ${text.slice(0, 100)}; ${outcome.sentence ?? `it must be ${status.type.expects}`}`,
      );
    else Object.assign(settings, { [status.field]: outcome.value });
  }
}

/**
 * What TorchServe leaves open: the metrics, and without tokens all. Who turns tokens off, or gives the metrics an address, means it for
 * whoever reaches that address.
 */
function accessOf(
  { disableTokens }: TorchServeSettings,
  ours: ReadonlyMap<string, Entry>,
): Record<string, string> {
  if (disableTokens) return { insecure: 'true' };
  return { anonymous_scopes: 'metrics', ...(ours.has('metrics_address') && { insecure: 'true' }) };
}

const entriesOf = (values: Readonly<Record<string, string>>, cwd: string): Layer =>
  Object.entries(values).map(([key, text]) => ({
    row: findKey(key)!,
    ...{ given: key, text, where: "TorchServe's default", baseFolder: cwd },
  }));

const addressOf = (host: string, port: number, tls: boolean): ListenAddress => ({
  ...{ kind: 'tcp', path: '', port },
  host: host.replace(/^\[|\]$/g, ''),
  ...(tls && { tls }),
});

/** A snapshot's models, or those that load_models names. */
function startupOf(
  { loadModels, snapshot }: TorchServeSettings,
  store: string,
  problems: Problems,
): StartupEntry[] {
  if (snapshot !== null) {
    return Object.entries(snapshot).flatMap(([name, versions]) =>
      Object.values(versions).flatMap(({ marName }) =>
        startupEntry(name, marName ?? `${name}.mar`, store, problems),
      ),
    );
  }
  const word = loadModels?.trim().toLowerCase() ?? 'none';
  if (['', 'none', 'n/a'].includes(word)) return [];
  if (word === 'all') {
    if (!existsSync(store)) {
      problems.error(`model_store: there is no folder ${store}`);
      return [];
    }
    return readdirSync(store)
      .filter(
        (file) => ARCHIVE.test(file) || MODEL_FILES.some((one) => existsSync(path.join(store, file, one))),
      )
      .sort()
      .map((file) => ({ name: null, url: path.join(store, file), shown: file }));
  }
  return namedIn(loadModels!)
    .filter(({ url }) => !WORKFLOW.test(url))
    .flatMap(({ name, url }) => startupEntry(name, url, store, problems));
}

/** Those of load_models that are workflows. A snapshot has none. */
function workflowsOf(
  { loadModels, snapshot }: TorchServeSettings,
  store: string,
  problems: Problems,
): readonly WorkflowEntry[] {
  if (snapshot !== null) return [];
  return namedIn(loadModels ?? '')
    .filter(({ url }) => WORKFLOW.test(url))
    .flatMap(({ name, url }) =>
      startupEntry(name, url, store, problems).map((one) => ({ name, url: one.url })),
    );
}

const namedIn = (text: string): { name: string | null; url: string }[] =>
  text
    .split(/[,\s]+/)
    .filter((one) => one !== '')
    .map((one) => {
      const [, name = null, url = ''] = /^(?:([^=]+)=)?(.+)$/.exec(one) ?? [];
      return { name, url };
    });

function startupEntry(name: string | null, given: string, store: string, problems: Problems): StartupEntry[] {
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(given)) return [{ name, url: given, shown: given }];
  const url = path.resolve(store, given);
  if (existsSync(url)) return [{ name, url, shown: given }];
  problems.error(`load_models: Model not found at: ${given} (there is no ${url})`);
  return [];
}
