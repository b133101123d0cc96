/**
 * The one reader of configuration: files, environment and flags in, one frozen Config out.
 *
 * Server-wide keys, the strongest first: environment, flags, the config file, the root's serving.properties, defaults.
 * Keys of a model: arguments of its registration, its own serving.properties, environment, the config file, the root's
 * serving.properties, defaults. So the environment can change what the root's file says of all models, and a model's own
 * file stands against the environment (DJLServing's order).
 *
 * In      argv after `start`, env, cwd; the root's serving.properties is that of cwd, or else the installation's own.
 *         The config file is -f, or conf/config.properties or config.properties in MODEL_SERVER_HOME
 * Errors  CONFIG_INVALID, one line a problem: file, line, key, value given, range, nearest known name
 */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type {
  Config,
  ConfiguredModel,
  ListenAddress,
  ModelRegistration,
  ServerConfig,
  StoreConfig,
  WorkflowOrigin,
} from './config.js';
import { USUAL_ENGINES } from './engine-names.js';
import { type Flags, parseFlags } from './flags.js';
import { defaultsOf } from './key-table.js';
import { applyLayers, argumentLayer, environmentLayer, fileLayer, type Layer } from './layers.js';
import { startupModels } from './load-models.js';
import { type ModelContext, placeOf, resolveModel } from './model-config.js';
import { type ModelTrust, trustedLayer } from './model-trust.js';
import { WHAT_A_MODEL_IS } from './no-model.js';
import { Problems } from './problems.js';
import { DEFAULT_ADDRESS } from './server-keys.js';

export interface ConfigSources {
  /** Arguments after `start`. */
  argv: readonly string[];
  env: Readonly<Record<string, string | undefined>>;
  cwd: string;
  /** Root of the installation: default model store, shard store and serving.properties. Default: where this file lies. */
  installation?: string;
  /** Another server's configuration: weaker than flags and environment, stronger than files. */
  layer?: Layer;
  /** Names of the engines that there are; absent: those that DJLServing has words for. */
  engines?: readonly string[];
  /** Where SageMaker puts the model; an argument so that a test can pretend. */
  sageMakerModelFolder?: string;
}

const SAGEMAKER_ADDRESS = 'http://0.0.0.0:8080';
const SAGEMAKER_MODEL_FOLDER = '/opt/ml/model';
/** Where it puts those of a multi-model endpoint, which it then registers. */
const SAGEMAKER_MODELS_FOLDER = '/opt/ml/models';

/** Upwards from the compiled file (dist/server/config/) or the source to the folder of package.json. */
function findInstallation(): string {
  let folder = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(folder, 'package.json')) && path.dirname(folder) !== folder) {
    folder = path.dirname(folder);
  }
  return folder;
}

/** A package under node_modules is npm's to replace: what an installation makes lies in the user's cache. A checkout keeps it to itself. */
function defaultFolders(
  installation: string,
  env: ConfigSources['env'],
  cwd: string,
): Pick<ServerConfig, 'modelStore' | 'shardStore' | 'downloadFolder' | 'cudaFolder'> {
  const isCheckout = existsSync(path.join(installation, 'tsconfig.json'));
  const ownModels = path.join(cwd, 'models');
  const asked = env.XDG_CACHE_HOME;
  const caches = asked && path.isAbsolute(asked) ? asked : path.join(env.HOME ?? homedir(), '.cache');
  const cache = path.join(caches, 'shardserve');
  return {
    modelStore: !isCheckout && existsSync(ownModels) ? ownModels : path.join(installation, 'models'),
    shardStore: isCheckout ? path.join(installation, '.shards') : path.join(cache, 'shards'),
    cudaFolder: isCheckout ? path.join(installation, '.cuda') : path.join(cache, 'cuda'),
    downloadFolder: isCheckout ? path.join(installation, '.downloads') : path.join(cache, 'downloads'),
  };
}

/** An address with another host or port: flags before PORT, which platforms set. */
function addressOf(
  address: ListenAddress,
  { PORT }: ConfigSources['env'],
  flags: Pick<Flags, 'host' | 'port'>,
  problems: Problems,
): ListenAddress {
  const asked = flags.port ?? PORT ?? '';
  if (asked === '' && flags.host === null) return address;
  const where = flags.port === null ? 'environment: PORT' : 'flag --port';
  if (asked !== '' && !(/^\d{1,5}$/.test(asked) && Number(asked) < 65_536)) {
    problems.error(`${where} is ${asked.slice(0, 20)}; it must be a whole number from 0 to 65535`);
    return address;
  }
  const base = address.kind === 'tcp' ? address : DEFAULT_ADDRESS;
  return { ...base, host: flags.host ?? base.host, port: asked === '' ? base.port : Number(asked) };
}

function configFileOf(
  given: string | null,
  env: ConfigSources['env'],
  cwd: string,
  problems: Problems,
): string | null {
  if (given !== null) {
    const file = path.resolve(cwd, given);
    if (existsSync(file)) return file;
    problems.error(`flag -f: there is no file ${file}`);
    return null;
  }
  const home = env.MODEL_SERVER_HOME;
  if (!home) return null;
  const candidates = ['conf/config.properties', 'config.properties'].map((name) =>
    path.resolve(cwd, home, name),
  );
  return candidates.find((file) => existsSync(file)) ?? null;
}

/**
 * Defaults of a container that SageMaker starts; with several models it registers each of them itself.
 *
 * SageMaker alone reaches the container and has no way to send a key, so requests need none; models are managed without a key only
 * where it does that itself.
 */
function sageMakerLayer({ env, cwd, sageMakerModelFolder = SAGEMAKER_MODEL_FOLDER }: ConfigSources): Layer {
  const isMultiModel = env.SAGEMAKER_MULTI_MODEL?.toLowerCase() === 'true';
  const values = {
    insecure: 'true',
    anonymous_scopes: isMultiModel ? 'infer,manage' : 'infer',
    inference_address: SAGEMAKER_ADDRESS,
    management_address: SAGEMAKER_ADDRESS,
    model_store: existsSync(sageMakerModelFolder) ? sageMakerModelFolder : null,
    load_models: isMultiModel ? 'NONE' : null,
    registration_folders: isMultiModel ? SAGEMAKER_MODELS_FOLDER : null,
  };
  return argumentLayer(values, 'argument serve', cwd);
}

const MIB = 1024 * 1024;

function storeOf(server: ServerConfig): StoreConfig {
  const { allowedHosts, downloadFolder, hubEndpoint, hubToken, offline, s3Endpoint } = server;
  return {
    ...{ allowedHosts, downloadFolder, hubToken, offline, s3Endpoint },
    hubEndpoint: hubEndpoint.replace(/\/$/, ''),
    maxCacheBytes: server.downloadCacheMb * MIB,
    maxDownloadBytes: server.maxDownloadMb * MIB,
    maxUnpackedBytes: server.maxUnpackedMb * MIB,
    maxEntries: server.maxArchiveEntries,
    maxCompressionRatio: server.maxArchiveRatio,
  };
}

/** Keys that a workflow's file gives a model are no more the operator's than that file. */
function workflowLayer(
  given: ModelRegistration['arguments'],
  where: string,
  folder: string,
  { url }: WorkflowOrigin,
  shared: readonly Layer[],
  problems: Problems,
): Layer {
  const isRemote = 'fetched' in placeOf(url, folder);
  const layer = argumentLayer(given, where, folder);
  return trustedLayer(layer, folder, isRemote ? 'fetched' : 'registered', shared, problems);
}

/** @throws ServingError CONFIG_INVALID */
function configure(
  { arguments: given, byOperator = false, name, url, version, where, workflow }: ModelRegistration,
  folder: string | null,
  context: ModelContext,
  downloadFolder: string,
): ConfiguredModel {
  const problems = new Problems();
  const isFetched = folder?.startsWith(`${downloadFolder}${path.sep}`) ?? false;
  const trust: ModelTrust = isFetched ? 'fetched' : byOperator ? 'operator' : 'registered';
  const registration =
    workflow === undefined
      ? argumentLayer(given, where, context.cwd)
      : workflowLayer(given, where, folder ?? context.cwd, workflow, context.shared, problems);
  const source = workflow?.folder == null ? undefined : workflow.url;
  const entry = { name, version, folder, url, source, where, trust, registration };
  const config = resolveModel(entry, context, problems);
  problems.throwIfAny();
  return { config, warnings: problems.warnings };
}

/**
 * @throws ServingError CONFIG_INVALID with every problem found
 */
export function loadConfig(sources: ConfigSources): Config {
  const { argv, cwd, engines = USUAL_ENGINES, env, layer = [] } = sources;
  const installation = sources.installation ?? findInstallation();
  const problems = new Problems();
  const flags = parseFlags(argv);

  const rootFile = [cwd, installation]
    .map((folder) => path.join(folder, 'serving.properties'))
    .find((file) => existsSync(file));
  const configFile = configFileOf(flags.configFile, env, cwd, problems);
  const serverFiles = [rootFile, configFile].filter((file): file is string => typeof file === 'string');
  const files: Layer[] = serverFiles.map((file) => fileLayer(file, 'server', cwd, problems));
  const environment = environmentLayer(env, cwd, problems);
  const flagLayer = argumentLayer({ load_models: flags.models, model_store: flags.modelStore }, 'flag', cwd);

  const serveLayer = flags.serve ? sageMakerLayer(sources) : [];
  const serverSettings = applyLayers(
    [serveLayer, ...files, layer, flagLayer, environment],
    'server',
    problems,
  );
  const server: ServerConfig = {
    ...(defaultsOf('server') as unknown as ServerConfig),
    ...defaultFolders(installation, env, cwd),
  };
  for (const [field, { value }] of serverSettings) Object.assign(server, { [field]: value });
  const isAddressed = serverSettings.has('inferenceAddress');
  server.inferenceAddress = addressOf(server.inferenceAddress, isAddressed ? {} : env, flags, problems);
  // Whoever says where requests come in, and nothing of models, means one address.
  if (!serverSettings.has('managementAddress')) server.managementAddress = server.inferenceAddress;
  server.hostNames = server.hostNames.map((name) => name.toLowerCase());

  // Also checks the server-wide keys of models when there is no model.
  const shared = [...files, layer, environment];
  const sharedSettings = applyLayers(shared, 'model', problems);
  const startup = startupModels(
    server,
    serverSettings.has('loadModels'),
    sharedSettings,
    serverFiles,
    cwd,
    problems,
  );
  const context: ModelContext = { shared, engines, cwd };
  const models = startup.local.map((entry) => resolveModel(entry, context, problems));
  problems.throwIfAny();
  if (
    models.length + startup.remote.length + startup.workflows.length === 0 &&
    server.loadModels !== 'NONE'
  ) {
    problems.warn(`model_store: no model was found in ${server.modelStore}. ${WHAT_A_MODEL_IS}`);
  }
  for (const value of Object.values(server)) Object.freeze(value);
  return Object.freeze({
    server: Object.freeze(server),
    models: Object.freeze(models),
    remoteModels: Object.freeze(startup.remote),
    workflows: Object.freeze(startup.workflows),
    store: Object.freeze(storeOf(server)),
    configure: (registration: ModelRegistration, folder: string | null) =>
      configure(registration, folder, context, server.downloadFolder),
    torchServe: null,
    warnings: Object.freeze(problems.warnings),
  });
}
