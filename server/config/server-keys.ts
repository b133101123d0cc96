/**
 * Server-wide keys: what DJLServing reads from config.properties and SERVING_*, and this server's own.
 *
 * Source  names, defaults and meaning: DJLServing's ConfigManager, as written down in the project's notes on serving APIs;
 *         a default that differs says so.
 */
import { ACCESS_KEYS } from './access-keys.js';
import type { ListenAddress } from './config.js';
import { DEVICE_FOLDERS } from './device-keys.js';
import { ENVIRONMENT_KEYS } from './environment-keys.js';
import { converted, type KeyRow, refused, serverKey, withoutEffect } from './key-row.js';
import {
  boolean,
  byteSize,
  errorRate,
  folder,
  integer,
  listenAddress,
  modelList,
  oneOf,
  orWord,
  pattern,
  text,
  words,
} from './value-types.js';

export const DEFAULT_ADDRESS: ListenAddress = { kind: 'tcp', host: '127.0.0.1', port: 8080, path: '' };

const httpErrorCode = integer(400, 599);
const headerValue = text('the value of a response header');

const GRPC_BY_ADDRESS = 'gRPC is set by grpc_address alone, http://HOST:PORT';
const ONE_LOOP = 'one event loop carries all connections';

/** Set by load-config from the folder of the installation; a row needs some default. */
export const UNSET_FOLDER = '';

export const SERVER_KEYS: readonly KeyRow[] = [
  serverKey(
    'inference_address',
    'inferenceAddress',
    listenAddress(),
    DEFAULT_ADDRESS,
    'where requests come in',
  ),
  serverKey(
    'management_address',
    'managementAddress',
    listenAddress(),
    DEFAULT_ADDRESS,
    'where models are managed; equal to inference_address: one listener; default: inference_address (DJLServing: port 8080 of 127.0.0.1)',
  ),
  serverKey(
    'metrics_address',
    'metricsAddress',
    listenAddress(),
    null,
    'where metrics are read; default: management_address',
  ),
  serverKey(
    'grpc_address',
    'grpcAddress',
    orWord(listenAddress(), { none: null }),
    null,
    'where the Open Inference Protocol is served by gRPC (KServe, Triton clients: usually :8001), with health and reflection; none: nowhere',
  ),
  ...ACCESS_KEYS,
  serverKey(
    'model_store',
    'modelStore',
    folder(),
    UNSET_FOLDER,
    'folder of models; default: models/ of the installation; of one that is installed as a package, models/ of the working folder where there is one; `-s`',
  ),
  serverKey('load_models', 'loadModels', modelList(), 'ALL', 'models to load at start; `-m`'),
  serverKey(
    'wait_model_loading',
    'waitModelLoading',
    boolean(),
    true,
    'listen only when all models are ready',
  ),
  serverKey(
    'allow_multi_status',
    'allowMultiStatus',
    boolean(),
    false,
    '/ping answers 207 while a model loads',
  ),
  serverKey(
    'max_request_size',
    'maxRequestBytes',
    integer(1, 1_073_741_824, 'bytes'),
    67_108_864,
    'largest body that is read, and bytes of all bodies that are held at a time',
    { env: ['SAGEMAKER_MAX_REQUEST_SIZE'] },
  ),
  serverKey(
    'max_connections',
    'maxConnections',
    integer(1, 1_000_000),
    8192,
    'connections of one listener at a time (ours); one more is closed at once',
  ),
  serverKey(
    'chunked_read_timeout',
    'chunkedReadTimeoutSeconds',
    integer(1, 86_400, 'seconds'),
    120,
    'a client that takes nothing for so long is dropped',
  ),
  serverKey('cors_allowed_origin', 'corsAllowedOrigin', headerValue, null, 'Access-Control-Allow-Origin'),
  serverKey('cors_allowed_methods', 'corsAllowedMethods', headerValue, null, 'Access-Control-Allow-Methods'),
  serverKey('cors_allowed_headers', 'corsAllowedHeaders', headerValue, null, 'Access-Control-Allow-Headers'),
  serverKey('bad_request_http_code', 'badRequestHttpCode', httpErrorCode, 400, 'status of a bad request'),
  serverKey(
    'wlm_error_http_code',
    'wlmErrorHttpCode',
    httpErrorCode,
    503,
    'status when a model is not ready',
  ),
  serverKey(
    'throttle_error_http_code',
    'throttleErrorHttpCode',
    httpErrorCode,
    503,
    'status when the queue is full',
  ),
  serverKey(
    'server_error_http_code',
    'serverErrorHttpCode',
    httpErrorCode,
    500,
    'status of any other failure',
  ),
  serverKey(
    'request_id_header_key',
    'requestIdHeaderKey',
    pattern(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/, 'the name of a header, at most 64 characters'),
    'x-request-id',
    'header whose value is echoed, or made when it is missing',
  ),
  serverKey(
    'shard_store',
    'shardStore',
    folder(),
    UNSET_FOLDER,
    'folder where the shards of models are kept (ours); default: .shards/ of a checkout, else $XDG_CACHE_HOME/shardserve/shards (~/.cache)',
  ),
  serverKey(
    'shard_store_max_gb',
    'shardStoreMaxGb',
    integer(0, 1_000_000, 'GiB'),
    0,
    'shards of all models together, beyond which the least recently used that no server of this machine uses are deleted (ours); 0: no limit',
  ),
  ...DEVICE_FOLDERS,
  serverKey(
    'download_dir',
    'downloadFolder',
    folder(),
    UNSET_FOLDER,
    'folder of models that were fetched or unpacked; default: .downloads/ of a checkout, else $XDG_CACHE_HOME/shardserve/downloads (~/.cache)',
    { env: ['DJL_CACHE_DIR'] },
  ),
  serverKey(
    'offline',
    'offline',
    orWord(boolean(), { 1: true, 0: false }),
    false,
    'models come from the cache alone, without any connection; what is not there is told',
    { env: ['DJL_OFFLINE', 'OFFLINE', 'HF_HUB_OFFLINE'] },
  ),
  serverKey(
    'download_cache_mb',
    'downloadCacheMb',
    integer(0, 1_073_741_824, 'MiB'),
    204_800,
    'all models in download_dir together; beyond it the least recently used are deleted, never one that is in use (ours)',
  ),
  serverKey(
    'allowed_hosts',
    'allowedHosts',
    words('host names, `host:port` or `*.domain`, divided by commas or white space'),
    [],
    'hosts that http(s):// models are fetched from (ours); default: none. A host named in full may have a private address',
  ),
  serverKey(
    'max_download_mb',
    'maxDownloadMb',
    integer(1, 16_777_216, 'MiB'),
    1_048_576,
    'largest model that is fetched (ours)',
  ),
  serverKey(
    'max_unpacked_mb',
    'maxUnpackedMb',
    integer(1, 16_777_216, 'MiB'),
    1_048_576,
    'largest content of an archive (ours)',
  ),
  serverKey(
    'max_archive_entries',
    'maxArchiveEntries',
    integer(1, 10_000_000),
    10_000,
    'entries of an archive, files of a hub repository (ours)',
  ),
  serverKey(
    'max_archive_ratio',
    'maxArchiveRatio',
    integer(1, 1_000_000),
    200,
    'unpacked bytes for each byte of an archive (ours)',
  ),
  serverKey(
    'hub_endpoint',
    'hubEndpoint',
    pattern(/^https?:\/\/[^\s/?#@]+\/?$/, 'an http(s):// URL of a host'),
    'https://huggingface.co',
    'hub that hf:// models and hub ids are fetched from',
    { env: ['HF_ENDPOINT'] },
  ),
  serverKey('hub_token', 'hubToken', text('an access token'), null, "the hub's access token", {
    env: ['HF_TOKEN'],
    secret: true,
  }),
  serverKey(
    's3_endpoint',
    's3Endpoint',
    text('a URL'),
    null,
    "S3-compatible service that s3:// models are fetched from; default: Amazon's",
    { env: ['AWS_ENDPOINT_URL_S3', 'AWS_ENDPOINT_URL'] },
  ),
  serverKey(
    'log_level',
    'logLevel',
    oneOf('fatal', 'error', 'warn', 'info', 'debug', 'trace'),
    'info',
    'least important line that is logged (ours)',
  ),
  serverKey(
    'log_folder',
    'logFolder',
    folder(),
    null,
    'folder for serving.log, access.log, server_metric.log and model_metric.log, besides standard output (ours)',
  ),
  serverKey(
    'prometheus',
    'prometheus',
    boolean(),
    false,
    "export DJLServing's metrics too; /server/metrics answers",
  ),
  serverKey(
    'fail_fast',
    'failFast',
    boolean(),
    false,
    'a model that has failed for good (more deaths than retry_threshold) ends the server with exit code 137, for whoever starts it again',
  ),
  serverKey(
    'drain_timeout',
    'drainTimeoutSeconds',
    integer(0, 3600, 'seconds'),
    30,
    'time that running requests get to end on SIGTERM (ours)',
  ),
  serverKey(
    'saturated_models_yield',
    'saturatedModelsYield',
    boolean(),
    true,
    'of models that share the cores, one that cannot keep up yields them to those that can; needs RLIMIT_NICE 20 (`--ulimit nice=20`) or CAP_SYS_NICE (ours)',
  ),

  ...(
    [
      ['wlm', 'errorRateWlm', 'of the queues and workers'],
      ['server', 'errorRateServer', 'of 424 and 500 upwards that are not those of the queues and workers'],
      ['model', 'errorRateModel', 'of 424, and of a model that failed while it answered'],
      ['any', 'errorRateAny', 'of any of these kinds'],
    ] as const
  ).map(([kind, field, what]) =>
    serverKey(
      `error_rate_${kind}`,
      field,
      errorRate(),
      null,
      `more errors ${what} than this turn /ping to 503 until the server is restarted`,
    ),
  ),
  serverKey(
    'sagemaker_health_check_override',
    'unhealthyFailsPing',
    boolean(),
    false,
    '/ping answers 500 also while a model has fewer workers than its minimum',
    { env: ['SAGEMAKER_HEALTH_CHECK_OVERRIDE'] },
  ),
  serverKey(
    'health_check_override',
    'deadWorkersPassPing',
    boolean(),
    false,
    '/ping does not answer 500 for a model whose shard workers died too often',
  ),
  serverKey(
    'async_result_limit',
    'asyncResultLimit',
    integer(1, 1_000_000),
    1000,
    'asynchronous answers (x-synchronous: false) that are kept at once, running ones too (ours)',
    { env: ['SERVING_MEMORY_CACHE_CAPACITY'] },
  ),
  serverKey(
    'async_result_memory_mb',
    'asyncResultMemoryMb',
    integer(1, 1_048_576, 'MiB'),
    64,
    'memory of all asynchronous answers (ours)',
  ),
  serverKey(
    'async_result_ttl',
    'asyncResultTtlSeconds',
    integer(1, 604_800, 'seconds'),
    3600,
    'time that an asynchronous answer is kept after its end (ours)',
  ),
  serverKey(
    'async_result_folder',
    'asyncResultFolder',
    folder(),
    null,
    'folder of this server alone (another that is started with it is refused) where asynchronous answers are kept too, so that they survive a restart; without it they are in memory only (ours)',
  ),
  converted('SAGEMAKER_MAX_PAYLOAD_IN_MB', 'max_request_size', byteSize(1, 1024, 'MiB', 1_048_576)),

  refused('server', 'model_url_pattern', 'models are not registered by a request in this version'),
  ...withoutEffect('server', 'all ranks of a model run on this host', ['cluster_address']),
  ...withoutEffect('server', ONE_LOOP, ['number_of_netty_threads', 'use_native_io', 'io_ratio']),
  ...withoutEffect('server', 'Java plugins cannot run here', ['plugin_folder']),
  ...withoutEffect('server', 'no code path of DJLServing reads it either', ['timeout_http_code']),
  ...withoutEffect('server', GRPC_BY_ADDRESS, [
    'grpc_port',
    'grpc_max_connection_age',
    'grpc_max_connection_grace',
  ]),
  ...withoutEffect('server', 'no static files are served', ['WEB_ROOT']),

  ...ENVIRONMENT_KEYS,
];
