/**
 * The configuration as the rest of the server sees it: our names, our units, every value checked and frozen.
 *
 * Made by config/load-config.ts from serving.properties, config.properties, environment and flags through ONE table of keys
 * (config/key-table.ts). Nothing else reads process.env or a properties file.
 */

export interface ListenAddress {
  /** Host and port, or a Unix socket. */
  kind: 'tcp' | 'unix';
  host: string;
  port: number;
  path: string;
}

/** `count` errors within `windowMs` are borne. */
export interface ErrorRate {
  count: number;
  windowMs: number;
}

export interface ServerConfig {
  inferenceAddress: ListenAddress;
  managementAddress: ListenAddress;
  /** Absolute folder. */
  modelStore: string;
  /** `ALL`, `NONE`, or the entries as given. */
  loadModels: 'ALL' | 'NONE' | readonly string[];
  waitModelLoading: boolean;
  allowMultiStatus: boolean;
  maxRequestBytes: number;
  /** A reader that takes nothing for so long is dropped. */
  chunkedReadTimeoutSeconds: number;
  corsAllowedOrigin: string | null;
  corsAllowedMethods: string | null;
  corsAllowedHeaders: string | null;
  badRequestHttpCode: number;
  wlmErrorHttpCode: number;
  throttleErrorHttpCode: number;
  serverErrorHttpCode: number;
  requestIdHeaderKey: string;
  /** Absolute folder where shards of models are kept. */
  shardStore: string;
  logLevel: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace';
  /** Absolute folder of log files, besides standard output; null: none. */
  logFolder: string | null;
  /** DJLServing's metrics under its names, and its endpoint for them. */
  prometheus: boolean;
  /** Running requests get so long to end on SIGTERM. */
  drainTimeoutSeconds: number;
  /** Beyond them /ping answers 503 for good; null: not counted. */
  errorRateWlm: ErrorRate | null;
  errorRateServer: ErrorRate | null;
  errorRateModel: ErrorRate | null;
  errorRateAny: ErrorRate | null;
  /** /ping answers 500 also while fewer workers run than should. */
  unhealthyFailsPing: boolean;
  /** /ping does not answer 500 for a model whose workers died too often. */
  deadWorkersPassPing: boolean;
  /** Asynchronous answers that are kept at once, running ones among them. */
  asyncResultLimit: number;
  /** MiB of all asynchronous answers together. */
  asyncResultMemoryMb: number;
  /** An asynchronous answer is kept so long after its end. */
  asyncResultTtlSeconds: number;
}

/** Where the model's configuration says nothing. */
export const DEFAULT_COLLECTIVE: ModelConfig['collective'] = 'zmq';

export interface ModelConfig {
  name: string;
  version: string | null;
  /** Where it came from, as given: a path or a URL. */
  url: string;
  /** Absolute folder of the checkpoint. */
  folder: string;
  tensorParallelDegree: number | 'max';
  dtype: 'auto' | 'fp32' | 'int8' | 'int4';
  /** Weights that share a scale (int4, int8); null: 128. */
  blockSize: number | null;
  batching: 'rolling' | 'dynamic';
  /** Sequences at once (rolling). */
  maxRollingBatchSize: number;
  /** Requests in one batch (dynamic). */
  batchSize: number;
  maxBatchDelayMs: number;
  jobQueueSize: number;
  /** Worker groups (replicas) that are kept; at most maxGroups. */
  minGroups: number;
  /** Worker groups at most. Both 0: none starts, unless scaleFromZero. */
  maxGroups: number;
  /** A group above minGroups that has had nothing to do for so long is stopped. */
  maxIdleSeconds: number;
  /** A model scaled to no group (min = max = 0) starts one when a request comes. */
  scaleFromZero: boolean;
  /** Memory that one group needs; 0: estimated from the plan of its shards. */
  requiredMemoryMb: number;
  /** Memory that loading a group must leave free. */
  reservedMemoryMb: number;
  /** Positions of a sequence, prompt and new tokens; null: the model's own. */
  maxModelLen: number | null;
  /** Time a prefill chunk may take (design D8). */
  prefillChunkMs: number;
  /** Keys and values of all ranks together; null: from free memory. */
  kvCacheMemoryMb: number | null;
  /** Intra-op threads a rank; null: usable cores / tensorParallelDegree, at least 1. */
  threadsPerRank: number | null;
  modelLoadingTimeoutSeconds: number;
  /** Longest wait for a slot. */
  predictTimeoutSeconds: number;
  /** A step that takes longer fails its group. */
  stepTimeoutSeconds: number;
  /** Deaths in ten minutes after which the model is FAILED. */
  retryThreshold: number;
  verifyChecksums: boolean;
  /** Percentiles of requests to the model metric log. */
  logRequestMetric: boolean;
  /** Values of which one percentile is told. */
  metricsAggregation: number;
  /** How partial sums pass between the ranks of a group; auto: shm, or zmq where shared memory cannot be had. */
  collective: 'auto' | 'shm' | 'zmq';
  /** DJLServing's output formatter of the model's dialect; null: by `stream`. */
  outputFormatter: 'json' | 'jsonlines' | 'sse' | null;
  /** Jinja text that overrides the checkpoint's; null: the checkpoint's. */
  chatTemplate: string | null;
}

export interface Config {
  server: ServerConfig;
  /** Models to load at start, in order. */
  models: readonly ModelConfig[];
  /** Keys that have no effect here, with the reason: logged once at start. */
  warnings: readonly string[];
}
