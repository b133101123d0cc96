/**
 * The configuration as the rest of the server sees it: our names, our units, every value checked and frozen.
 *
 * Made by config/load-config.ts from serving.properties, config.properties, environment and flags through ONE table of keys
 * (config/key-table.ts). Nothing else reads process.env or a properties file.
 */
import type { EIGHT_BIT_GROUPS } from '../../proto/partition.js';
import type { CallParserName, ReasoningParserName } from '../requests/answer-format.js';
import type { Predictor, RepositoryModel } from './foreign-layout.js';
import type { ListenAddress } from './listen-address.js';
import type { TorchServeConfig } from './torchserve/torchserve-config.js';

export type { ListenAddress };

/** Guesses by looking the last tokens up among those before them. */
export interface SpeculationConfig {
  /** Guessed in a step at most. */
  tokens: number;
  /** Tokens that must be equal, and that are compared at most. */
  shortest: number;
  longest: number;
}

/** `count` errors within `windowMs` are borne. */
export interface ErrorRate {
  count: number;
  windowMs: number;
}

export interface ServerConfig {
  inferenceAddress: ListenAddress;
  managementAddress: ListenAddress;
  /** null: that of management. */
  metricsAddress: ListenAddress | null;
  /** Where the Open Inference Protocol is served by gRPC; null: nowhere. */
  grpcAddress: ListenAddress | null;
  /** Absolute paths, for https:// addresses: PEM, or PKCS#12 with its password. */
  certificateFile: string | null;
  privateKeyFile: string | null;
  keystore: string | null;
  keystorePass: string;
  keystoreType: 'PKCS12';
  /** Who signs the certificates that clients must show; null: they need none. */
  clientCaFile: string | null;
  /** Keys in clear; whoever makes the server keeps their digests. */
  apiKey: string | null;
  managementKey: string | null;
  /** Absolute path of hashed keys. */
  keyFile: string | null;
  /** For every key, and all requests without one; 0: no limit. */
  keyRequestsPerMinute: number;
  keyTokensPerMinute: number;
  keyConcurrentRequests: number;
  /** What needs no key; null: all while there are no keys, nothing otherwise. */
  anonymousScopes: readonly string[] | null;
  /** What needs no key may be had from other machines. */
  insecure: boolean;
  /** Names of this host that a request without a key may ask for, in lower case. */
  hostNames: readonly string[];
  /** Absolute folder. */
  modelStore: string;
  /** Absolute folders below which a request may register a model, besides the model store; `*`: any. */
  registrationFolders: readonly string[];
  /** `ALL`, `NONE`, or the entries as given. */
  loadModels: 'ALL' | 'NONE' | readonly string[];
  waitModelLoading: boolean;
  allowMultiStatus: boolean;
  maxRequestBytes: number;
  /** One listener's. */
  maxConnections: number;
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
  /** Of CUDA's libraries: `shardserve gpu install` writes it. */
  cudaFolder: string;
  /** Bytes of all shards in GiB, beyond which the least recently used go; 0: no limit. */
  shardStoreMaxGb: number;
  /** Absolute folder of fetched models. */
  downloadFolder: string;
  allowedHosts: readonly string[];
  offline: boolean;
  downloadCacheMb: number;
  maxDownloadMb: number;
  maxUnpackedMb: number;
  maxArchiveEntries: number;
  maxArchiveRatio: number;
  hubEndpoint: string;
  hubToken: string | null;
  s3Endpoint: string | null;
  logLevel: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace';
  /** Absolute folder of log files, besides standard output; null: none. */
  logFolder: string | null;
  /** DJLServing's metrics under its names, and its endpoint for them. */
  prometheus: boolean;
  /** Running requests get so long to end on SIGTERM. */
  drainTimeoutSeconds: number;
  /** A model that has failed for good ends the server with exit code 137. */
  failFast: boolean;
  /** Where several models share the cores, one that is saturated yields them to those that keep up. */
  saturatedModelsYield: boolean;
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
  /** Where asynchronous answers lie besides; null: in memory only. */
  asyncResultFolder: string | null;
}

/** Where the model's configuration says nothing. */
export const DEFAULT_COLLECTIVE: ModelConfig['collective'] = 'auto';

/** A model to be fetched and configured: by load_models, HF_MODEL_ID or the management API. */
export interface ModelRegistration {
  /** null: from the URL. */
  readonly name: string | null;
  readonly version: string | null;
  readonly url: string;
  /** Who asks, for messages. */
  readonly where: string;
  /** Keys of the key table and their values, stronger than the model's own file. */
  readonly arguments: Readonly<Record<string, string>>;
  /** Named at start; absent: by a request. */
  readonly byOperator?: boolean;
  /** A workflow's file names the model and gives its keys: they count as that file does. Absent: who registers gives them. */
  readonly workflow?: WorkflowOrigin;
}

export interface WorkflowOrigin {
  /** What it was registered with. */
  readonly url: string;
  /** Absolute, where the model lies in it; null: it lies elsewhere. */
  readonly folder: string | null;
}

/** A workflow to be loaded at start, after the models. */
export interface WorkflowEntry {
  /** null: the file's own, else the URL's. */
  readonly name: string | null;
  readonly url: string;
}

export interface ConfiguredModel {
  readonly config: ModelConfig;
  readonly warnings: readonly string[];
}

/** Sizes in bytes; absent limits are none. */
export interface StoreConfig {
  /** Absolute folder of what is fetched and unpacked. */
  downloadFolder: string;
  /** http(s) URLs of other hosts are refused; empty: of all. */
  allowedHosts: readonly string[];
  /** Nothing is connected to for models. */
  offline: boolean;
  /** All models that were fetched, together. */
  maxCacheBytes: number;
  maxDownloadBytes: number;
  maxUnpackedBytes: number;
  maxEntries: number;
  maxCompressionRatio: number;
  hubEndpoint: string;
  hubToken: string | null;
  /** null: Amazon's. */
  s3Endpoint: string | null;
}

/** What keys and values are held as; auto: fp32. */
export type KvCacheDtype = 'auto' | 'fp32' | 'fp16' | 'int8';

export interface ModelConfig {
  name: string;
  version: string | null;
  /** Where it came from, as given: a path or a URL. */
  url: string;
  /** Absolute folder of the checkpoint; empty while it is not fetched. */
  folder: string;
  /** Where the checkpoint must be fetched from first, when option.model_id names no local folder; null: it is there. */
  checkpointUrl: string | null;
  /** What serves it, by the name in server/all-engines.ts: llm (split over shard workers), onnx (ONNX Runtime as it is), handler (its own code). */
  engine: string;
  tensorParallelDegree: number | 'max';
  /** Worker groups as many as there are GPUs for (DJLServing), since nobody has said how many. */
  fillDevices: boolean;
  /** GPUs that it may have (load_on_devices); null: any. */
  gpus: readonly number[] | null;
  /** What weights, KV cache and workspace may take of a GPU's free memory. */
  gpuMemoryShare: number;
  /** What its ranks compute on; auto: the CPU. */
  device: 'auto' | 'cpu' | 'webgpu' | 'cuda';
  dtype: 'auto' | 'fp32' | 'fp16' | 'bf16' | 'int8' | 'int4';
  /** Weights that share a scale (int4, int8); null: 32. */
  blockSize: number | null;
  /** int4, int8: blocks without zero points; null: int4 has them where our own kernels run. */
  symmetric: boolean | null;
  /** int4: how scales are found. */
  scales: 'search' | 'nearest';
  /** Linears that int4 leaves at 8 bits; null: by the model's size. */
  eightBit: readonly (typeof EIGHT_BIT_GROUPS)[number][] | null;
  /** Degrees that divide it give int8 and int4 models the same text. */
  reproducibleDegree: 1 | 2 | 4 | 8;
  /** Bits of the rows that meet weights of int8 and int4; null: by the model's size. */
  activationBits: 8 | 16 | null;
  /** Whether requests join and leave at every step, or run as whole batches. */
  batching: 'rolling' | 'dynamic';
  /** Sequences at once (rolling). */
  maxRollingBatchSize: number | null;
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
  /** Pause between two tokens of a stream that prompts beside it may cause. */
  maxTokenGapMs: number;
  /** How much of that pause prompts get. */
  scheduling: 'throughput' | 'balanced' | 'latency';
  /** Whose prompt goes first in a step. */
  promptOrder: 'shortest' | 'fair';
  /** Time a piece of a prompt may take beside streams at most; null: only the gap bounds it. */
  prefillChunkMs: number | null;
  /** Keys and values of all ranks together; null: from free memory. */
  kvCacheMemoryMb: number | null;
  kvCacheDtype: KvCacheDtype;
  /** What becomes of the rows of a sequence that is preempted. */
  preemptionMode: 'recompute' | 'swap';
  /** GiB of a rank for such rows; counts where they are kept. */
  swapSpaceGb: number;
  /** Rows of sequences that ended are kept for prompts that begin alike. */
  prefixCaching: boolean;
  /** usage.cached_tokens is told also to requests without a salt. */
  reportCachedTokens: boolean;
  /** Intra-op threads a rank; null: usable cores / tensorParallelDegree, at least 1. */
  threadsPerRank: number | null;
  /** File below the folder, where the layout says it (Triton's versions, TorchServe's manifest); null: found by the engine. */
  modelFile: string | null;
  /** What Triton's config.pbtxt says of it; absent: it lies in no such folder. */
  repository?: RepositoryModel;
  /** How requests are asked of a language model, where its model.py says it; null: as they say. */
  predictor: Predictor | null;
  /** Handlers: the language model that their code asks; null: none. */
  boundModel: ModelConfig | null;
  /** Handlers: file below the folder, perhaps with `:name`; null: by the folder's files. */
  entryPoint: string | null;
  /** Memory of a handler's process at most. */
  handlerMemoryMb: number;
  /** An ONNX model's process has so much; 0: no limit. */
  onnxMemoryMb: number;
  /** Code of a model that was fetched from elsewhere may run. */
  trustRemoteCode: boolean;
  /** ONNX models: inputs that are filled up with a value so that requests of different lengths run together; null: none. */
  padInputs: Readonly<Record<string, number>> | null;
  /** ONNX models: threads that run nodes beside each other, where executionMode is PARALLEL. */
  interOpThreads: number;
  executionMode: 'SEQUENTIAL' | 'PARALLEL';
  optLevel: 'NO_OPT' | 'BASIC_OPT' | 'EXTENDED_OPT' | 'ALL_OPT';
  modelLoadingTimeoutSeconds: number;
  /** Longest wait for a slot. */
  predictTimeoutSeconds: number;
  /** Deaths of its group that a request survives. */
  requestRetries: number;
  /** From when a request comes until it is answered, at most. */
  requestTimeoutSeconds: number;
  /** A step that takes longer fails its group. */
  stepTimeoutSeconds: number;
  /** Deaths in ten minutes after which the model is FAILED. */
  retryThreshold: number;
  /** A model that is FAILED is tried again after so long, then twice as long, …; 0: not by itself. */
  retryCoolDownSeconds: number;
  verifyChecksums: boolean;
  /** Percentiles of requests to the model metric log. */
  logRequestMetric: boolean;
  /** Values of which one percentile is told. */
  metricsAggregation: number;
  /** How partial sums pass between the ranks of a group; auto: shm, or zmq where shared memory cannot be had. */
  collective: 'auto' | 'shm' | 'zmq' | 'nccl';
  /** How partial sums are sent where `collective` is zmq. */
  collectiveCompression: 'none' | 'int8';
  /** What the model must be for; null: what it is. */
  task: 'text-generation' | 'text-embedding' | 'text-classification' | null;
  /** How tokens are guessed ahead; null: they are not. */
  speculation: SpeculationConfig | null;
  /** A text to embed that is too long is cut, or refused; null: as its dialect does. */
  truncateTexts: boolean | null;
  /** Vectors of texts are brought to length 1; null: as the checkpoint says. */
  normalize: boolean | null;
  /** DJLServing's output formatter of the model's dialect; null: by `stream`. */
  outputFormatter: 'json' | 'jsonlines' | 'sse' | 'json_chat' | 'jsonlines_chat' | 'sse_chat' | null;
  /** Answers to LMI's `inputs` have TGI's form; it wins over outputFormatter. */
  tgiCompat: boolean;
  /** They have the form of LMI's newer handler. */
  asyncMode: boolean;
  /** Jinja text that overrides the checkpoint's; null: the checkpoint's. */
  chatTemplate: string | null;
  /** How calls, and what a model thinks, stand in the text of an answer (text/answer-parts). */
  toolCallParser: 'auto' | 'none' | CallParserName;
  reasoningParser: 'auto' | 'none' | ReasoningParserName;
  /** Clients may open sessions on DJLServing's paths. */
  statefulSessions: boolean;
  sessionSeconds: number;
}

export interface Config {
  server: ServerConfig;
  /** Models to load at start whose folders are there, in order. */
  models: readonly ModelConfig[];
  /** Models to load at start, after those, that must be fetched or unpacked first. */
  remoteModels: readonly ModelRegistration[];
  /** Workflows to load at start, after all models. */
  workflows: readonly WorkflowEntry[];
  /** What the model store may fetch, and where it puts it. */
  store: StoreConfig;
  /**
   * Configuration of a model that is registered while the server runs.
   *
   * @param folder of the model; null: it is not there yet, so its own serving.properties is not known
   * @throws ServingError CONFIG_INVALID
   */
  configure(registration: ModelRegistration, folder: string | null): ConfiguredModel;
  /** What TorchServe's command asks for besides; null: another command started the server. */
  torchServe: TorchServeConfig | null;
  /** Keys that have no effect here, with the reason: logged once at start. */
  warnings: readonly string[];
}
