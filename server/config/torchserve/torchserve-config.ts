/**
 * What TorchServe's configuration asks for that no other dialect knows: plain data, checked and frozen.
 *
 * Made by load-torchserve.ts. What both know (addresses, the model store, limits) stands in ServerConfig.
 */
import type { ListenAddress } from '../listen-address.js';

/** One model of `models` or of a snapshot. Absent: as the model's own files say. */
export interface TorchServeModelSettings {
  readonly defaultVersion?: boolean;
  readonly marName?: string;
  readonly minWorkers?: number;
  readonly maxWorkers?: number;
  readonly batchSize?: number;
  readonly maxBatchDelay?: number;
  readonly responseTimeout?: number;
  readonly startupTimeout?: number;
}

/** Name → version → settings. */
export type TorchServeModels = Readonly<Record<string, Readonly<Record<string, TorchServeModelSettings>>>>;

/** A model that is loaded at start. */
export interface StartupEntry {
  /** null: its manifest's. */
  readonly name: string | null;
  /** Absolute path, or a URL. */
  readonly url: string;
  /** As given. */
  readonly shown: string;
}

/** How metrics are told. */
export type MetricsMode = 'log' | 'prometheus' | 'legacy';

/** What `TorchServeConfig` has of the keys. */
export interface TorchServeSettings {
  enableModelApi: boolean;
  /** As given; null: the model store. */
  workflowFolder: string | null;
  disableTokens: boolean;
  tokenExpirationMinutes: number;
  enableMetricsApi: boolean;
  metricsMode: MetricsMode;
  /** Absolute path of a metrics.yaml; null: TorchServe's own. */
  metricsConfig: string | null;
  metricsAutoDetect: boolean;
  disableSystemMetrics: boolean;
  metricIntervalSeconds: number;
  /** For a registration that asks for none. */
  defaultWorkers: number;
  /** Workers are numbered from it on. */
  firstWorkerPort: number;
  /** A URL must fit one of them from end to end. */
  allowedUrls: readonly string[];
  grpcTls: boolean;
  grpcInferenceHost: string;
  grpcInferencePort: number;
  grpcManagementHost: string;
  grpcManagementPort: number;
  grpcInferenceMaxAgeMs: number | null;
  grpcInferenceGraceMs: number | null;
  grpcManagementMaxAgeMs: number | null;
  grpcManagementGraceMs: number | null;
  /** As given. */
  loadModels: string | null;
  readsEnvironment: boolean;
  allowedUrlsFromEnvironment: boolean;
  models: TorchServeModels;
  /** What is restored; null: this is no snapshot. */
  snapshot: TorchServeModels | null;
}

export interface TorchServeConfig extends Readonly<TorchServeSettings> {
  readonly grpcInferenceAddress: ListenAddress;
  readonly grpcManagementAddress: ListenAddress;
  /** Absolute folder of workflows. */
  readonly workflowStore: string;
  /** Where key_file.json is written. */
  readonly keyFile: string;
  /** No snapshots are read or written. */
  readonly noSnapshots: boolean;
  readonly logFolder: string;
  readonly metricsFolder: string;
  readonly startupModels: readonly StartupEntry[];
  /** As its file says, for snapshots: key and text, secrets left out. */
  readonly given: Readonly<Record<string, string>>;
}
