/**
 * The table of TorchServe's keys: every name that its config.properties or a TS_ variable may hold, and what becomes of it.
 *
 * In      nothing
 * Out     rows; a key that has none may still be one of this server's own (key-table.ts)
 * Source  TorchServe's configuration: names and defaults
 */
import type { KeyStatus } from '../key-row.js';
import { boolean, file, folder, integer, oneOf, pattern, text, type ValueType } from '../value-types.js';
import type { TorchServeModels, TorchServeSettings } from './torchserve-config.js';

export interface TorchServeRow {
  readonly name: string;
  readonly status: Exclude<KeyStatus, { kind: 'elsewhere' }>;
  readonly what: string;
  readonly secret: boolean;
}

const MAX_MODELS_CHARACTERS = 262_144;
/** Where these are served when nothing is said, as text of this server's keys. */
export const TORCHSERVE_DEFAULTS: Readonly<Record<string, string>> = {
  inference_address: 'http://127.0.0.1:8080',
  management_address: 'http://127.0.0.1:8081',
  metrics_address: 'http://127.0.0.1:8082',
  max_request_size: '6553500',
  job_queue_size: '100',
};

const NO_JVM = 'there is no Java virtual machine here';
const NO_PYTHON = 'there is no Python here';
const ONE_LOOP = 'one event loop carries all connections';
const NO_SEQUENCES = 'requests of a sequence are not kept together';

function works<F extends keyof TorchServeSettings>(
  name: string,
  field: F,
  type: ValueType<TorchServeSettings[F]>,
  defaultValue: TorchServeSettings[F],
  what: string,
): TorchServeRow {
  return { name, status: { kind: 'works', field, type, defaultValue }, what, secret: false };
}

/** The same as a key of the key table. */
const mapped = (name: string, to = name): TorchServeRow => ({
  ...{ name, what: '', secret: name.endsWith('_pass') },
  status: { kind: 'mapped', to },
});

const withoutEffect = (reason: string, ...names: string[]): TorchServeRow[] =>
  names.map((name) => ({
    ...{ name, what: '', secret: false },
    status: { kind: 'noEffect', reason },
  }));

const refused = (name: string, because: string, ...unless: string[]): TorchServeRow => ({
  ...{ name, what: '', secret: false },
  status: { kind: 'refused', because, unless },
});

const host = pattern(/^(?:[\w.-]{1,253}|\[[0-9a-fA-F:.]+\])$/, 'a host name or an address');
const port = integer(0, 65_535);
const ageMs = integer(1, 2_147_483_647, 'ms');

/** Regular expressions with commas; those of an operator, so that they are taken as they are. */
function expressions(): ValueType<readonly string[]> {
  return {
    expects: 'regular expressions with commas',
    parse(given) {
      const all = given
        .split(',')
        .map((one) => one.trim())
        .filter((one) => one !== '');
      try {
        for (const one of all) new RegExp(one);
      } catch (error) {
        return { problem: true, sentence: (error as Error).message };
      }
      return { value: all };
    },
  };
}

const COUNTS = [
  'minWorkers',
  'maxWorkers',
  'batchSize',
  'maxBatchDelay',
  'responseTimeout',
  'startupTimeout',
];

function isSettings(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const settings = value as Record<string, unknown>;
  const areCounts = COUNTS.every((key) => settings[key] === undefined || Number.isInteger(settings[key]));
  return areCounts && (settings.marName === undefined || typeof settings.marName === 'string');
}

/** `{"name": {"1.0": {"marName": …}}}`; of a snapshot within `models`. */
function modelSettings(): ValueType<TorchServeModels> {
  return {
    expects: 'JSON: {"NAME": {"VERSION": {"marName", "minWorkers", "maxWorkers", "batchSize", …}}}',
    parse(given) {
      if (given.length > MAX_MODELS_CHARACTERS) return { problem: true };
      try {
        const value = JSON.parse(given) as unknown;
        const inner = (value as { models?: unknown; modelCount?: unknown }) ?? {};
        const models = inner.modelCount === undefined ? value : inner.models;
        if (typeof models !== 'object' || models === null) return { problem: true };
        const areRight = Object.values(models).every(
          (versions: unknown) =>
            typeof versions === 'object' && versions !== null && Object.values(versions).every(isSettings),
        );
        return areRight ? { value: models as TorchServeModels } : { problem: true };
      } catch {
        return { problem: true };
      }
    },
  };
}

export const TORCHSERVE_KEYS: readonly TorchServeRow[] = [
  mapped('inference_address'),
  mapped('management_address'),
  mapped('metrics_address'),
  mapped('model_store'),
  mapped('job_queue_size'),
  mapped('max_request_size'),
  mapped('cors_allowed_origin'),
  mapped('cors_allowed_methods'),
  mapped('cors_allowed_headers'),
  mapped('default_response_timeout', 'option.step_timeout'),
  mapped('default_startup_timeout', 'option.model_loading_timeout'),
  mapped('unregister_model_timeout', 'drain_timeout'),
  mapped('default_service_handler', 'option.entryPoint'),
  works('grpc_inference_address', 'grpcInferenceHost', host, '127.0.0.1', 'host of the gRPC inference API'),
  works(
    'grpc_management_address',
    'grpcManagementHost',
    host,
    '127.0.0.1',
    'host of the gRPC management API',
  ),
  works('grpc_inference_port', 'grpcInferencePort', port, 7070, 'its port'),
  works('grpc_management_port', 'grpcManagementPort', port, 7071, 'its port'),
  works(
    'grpc_inference_max_connection_age_ms',
    'grpcInferenceMaxAgeMs',
    ageMs,
    null,
    'a connection that old is ended',
  ),
  works(
    'grpc_inference_max_connection_age_grace_ms',
    'grpcInferenceGraceMs',
    ageMs,
    null,
    'its calls have so long',
  ),
  works('grpc_management_max_connection_age_ms', 'grpcManagementMaxAgeMs', ageMs, null, 'likewise'),
  works('grpc_management_max_connection_age_grace_ms', 'grpcManagementGraceMs', ageMs, null, 'likewise'),
  works(
    'load_models',
    'loadModels',
    text('all, none, or [NAME=]FILE with commas'),
    null,
    'models of the model store that are loaded at start; `--models`',
  ),
  works(
    'enable_envvars_config',
    'readsEnvironment',
    boolean(),
    false,
    'TS_ and the name of a key in capitals says the same',
  ),
  works(
    'use_env_allowed_urls',
    'allowedUrlsFromEnvironment',
    boolean(),
    false,
    'allowed_urls is read from TS_ALLOWED_URLS alone',
  ),
  works(
    'models',
    'models',
    modelSettings(),
    {},
    'settings of models that load_models names, by name and version',
  ),
  works(
    'model_snapshot',
    'snapshot',
    modelSettings(),
    null,
    'what a snapshot restores; written by the server',
  ),
  works(
    'default_workers_per_model',
    'defaultWorkers',
    integer(0, 64),
    0,
    'workers of a registration that asks for none; of models at start 0 means 1 (TorchServe: one a core; a worker here is a group of shard workers)',
  ),
  works(
    'initial_worker_port',
    'firstWorkerPort',
    port,
    9000,
    'workers are numbered from it on; no port is opened',
  ),
  works(
    'allowed_urls',
    'allowedUrls',
    expressions(),
    ['file://.*|http(s)?://.*'],
    'what URL a registration may name; hosts must also stand in allowed_hosts',
  ),
  works('disable_token_authorization', 'disableTokens', boolean(), false, 'no token is asked for'),
  works(
    'token_expiration_min',
    'tokenExpirationMinutes',
    integer(1, 525_600, 'minutes'),
    60,
    'life of a token',
  ),
  works(
    'workflow_store',
    'workflowFolder',
    folder(),
    null,
    'where POST /workflows and a .war of load_models find workflows; default: the model store',
  ),
  works('enable_model_api', 'enableModelApi', boolean(), false, 'models may be registered and unregistered'),
  works('enable_metrics_api', 'enableMetricsApi', boolean(), true, 'metrics_address answers'),
  works(
    'metrics_mode',
    'metricsMode',
    oneOf('log', 'prometheus', 'legacy'),
    'log',
    "where TorchServe's metrics go",
  ),
  works('metrics_config', 'metricsConfig', file(), null, 'metrics.yaml: which metrics of handlers there are'),
  works(
    'model_metrics_auto_detect',
    'metricsAutoDetect',
    boolean(),
    false,
    'also metrics that metrics.yaml does not name',
  ),
  works('disable_system_metrics', 'disableSystemMetrics', boolean(), false, 'none of CPU, memory and disk'),
  works(
    'metric_time_interval',
    'metricIntervalSeconds',
    integer(1, 86_400, 'seconds'),
    60,
    'between two readings of them',
  ),
  works('enable_grpc_ssl', 'grpcTls', boolean(), false, 'gRPC by TLS, with the same certificate'),
  mapped('keystore'),
  { ...mapped('keystore_pass'), secret: true },
  mapped('keystore_type'),
  mapped('private_key_file'),
  mapped('certificate_file'),
  refused('decode_input_request', 'a handler gets JSON parsed and text as text', 'true'),
  refused('install_py_dep_per_model', NO_PYTHON, 'false'),
  refused(
    'service_envelope',
    'the path decides how a request is wrapped: /v1/models/MODEL:predict is KServe v1',
    '',
    'body',
    'json',
    'kserve',
    'kservev2',
  ),
  ...withoutEffect('answers have no limit of their own', 'max_response_size'),
  ...withoutEffect('models compute on the CPU or where option.device says', 'number_of_gpu'),
  ...withoutEffect('images are always limited', 'limit_max_image_pixels'),
  ...withoutEffect('the log never waits', 'async_logging'),
  ...withoutEffect('a handler sees none of the environment', 'blacklist_env_vars'),
  ...withoutEffect(
    NO_SEQUENCES,
    'ts_header_key_sequence_id',
    'ts_header_key_sequence_start',
    'ts_header_key_sequence_end',
  ),
  ...withoutEffect('it is always served', 'ts_open_inference_protocol'),
  ...withoutEffect(ONE_LOOP, 'number_of_netty_threads', 'netty_client_threads', 'use_native_io', 'io_ratio'),
  ...withoutEffect(NO_JVM, 'prefer_direct_buffer', 'vmargs', 'plugins_path', 'debug'),
  ...withoutEffect(
    NO_PYTHON,
    'cpu_launcher_enable',
    'cpu_launcher_args',
    'ipex_enable',
    'ipex_gpu_enable',
    'cpp_log_config',
  ),
  ...withoutEffect('workers are joined by sockets without ports', 'initial_distribution_port'),
  ...withoutEffect('what they are is read by the server itself', 'system_metrics_cmd'),
  ...withoutEffect('a snapshot says so of itself', 'version', 'tsConfigFile'),
];

const byName = new Map(TORCHSERVE_KEYS.map((row) => [row.name, row]));

export const findTorchServeKey = (name: string): TorchServeRow | null => byName.get(name) ?? null;

/** Field → default of every row that works. */
export function defaultSettings(): TorchServeSettings {
  return Object.fromEntries(
    TORCHSERVE_KEYS.flatMap(({ status }) =>
      status.kind === 'works' ? [[status.field, status.defaultValue]] : [],
    ),
  ) as unknown as TorchServeSettings;
}
