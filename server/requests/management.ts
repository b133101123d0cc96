/**
 * What the management API may ask of the work load manager: plain data, our names; a dialect maps them to its own.
 *
 * One pool is one (name, version). Min and max count worker groups (replicas of `tensorParallelDegree` ranks each).
 */
import type { ErrorCode } from '../../proto/errors.js';

/** Registration of a model while the server runs. Absent fields: the model's own serving.properties, then the server's. */
export interface RegisterRequest {
  /** Folder, file://, archive, http(s)://, s3://, hf://. */
  url: string;
  /** Absent: from the url's last segment. */
  name?: string;
  /** null: unversioned, allowed only while the name has no other. */
  version: string | null;
  engine?: string;
  device?: string;
  jobQueueSize?: number;
  batchSize?: number;
  maxBatchDelayMs?: number;
  maxIdleSeconds?: number;
  minGroups?: number;
  maxGroups?: number;
  /** Code of a handler: a file of the folder, or `builtin:` and a name. */
  entryPoint?: string;
  /** Until a batch is answered. */
  stepTimeoutSeconds?: number;
  loadingTimeoutSeconds?: number;
  /** Its share of the name's requests, beside the other versions' weights; absent: 1. */
  weight?: number;
}

export interface Registration {
  name: string;
  version: string | null;
  /** Resolves when the model is ready. Rejects with a ServingError; the model is unregistered again then. */
  ready: Promise<void>;
}

/** Absent: unchanged. */
export interface ScaleRequest {
  minGroups?: number;
  maxGroups?: number;
  device?: string;
}

export interface ScaledPool {
  name: string;
  version: string | null;
  minGroups: number;
  maxGroups: number;
}

export interface RankDescription {
  rank: number;
  pid: number | null;
  /** `cpu` or `gpu<n>`. */
  device: string;
  /** It holds its peers up: so many times as long as they is it busy. Absent: it keeps up. */
  slowerThanPeers?: number;
}

export interface GroupDescription {
  /** Unique in the life of its pool, from 1. */
  id: number;
  startedAtMs: number;
  state: 'starting' | 'running' | 'restarting' | 'failed' | 'stopping';
  ranks: readonly RankDescription[];
}

export interface LoadingProgress {
  stage: 'download' | 'verify' | 'unpack' | 'partition' | 'load' | 'warm-up';
  doneBytes: number;
  /** null: not known yet. */
  totalBytes: number | null;
}

export interface PoolDescription {
  name: string;
  version: string | null;
  url: string;
  state: 'PENDING' | 'READY' | 'FAILED';
  /** READY and at least minGroups run. */
  healthy: boolean;
  loadedAtStartup: boolean;
  /** While PENDING; null otherwise. */
  loading: LoadingProgress | null;
  /** Why it is FAILED; null otherwise. */
  failure: { code: ErrorCode; message: string } | null;
  /** When it is tried again; null: it is not FAILED, or not by itself. */
  nextTryAtMs: number | null;
  tensorParallelDegree: number;
  batchSize: number;
  maxBatchDelayMs: number;
  maxIdleSeconds: number;
  queueSize: number;
  requestsInQueue: number;
  minGroups: number;
  maxGroups: number;
  groups: readonly GroupDescription[];
  /** Ranks of all groups use more cores than there are. */
  coresOversubscribed: boolean;
  /** Requests without a version get it; absent: no version is preferred. */
  isDefault?: boolean;
  /** Another model or a workflow asks it, and it goes with that one. */
  isAttached?: boolean;
  /** Its share of the name's requests, beside the other versions' weights; absent: versions are not weighed. */
  weight?: number;
  /** Until a batch is answered. */
  stepTimeoutSeconds?: number;
  loadingTimeoutSeconds?: number;
}

export interface ManagementService {
  /**
   * Resolves when the name is taken and loading has begun (PENDING); what is wrong before that is thrown.
   *
   * @throws ServingError ALREADY_REGISTERED, BAD_REQUEST, SHUTTING_DOWN
   */
  register(request: RegisterRequest): Promise<Registration>;
  /** All versions where `version` is null. Jobs that run get the drain time. @throws ServingError MODEL_NOT_FOUND */
  unregister(name: string, version: string | null): Promise<void>;
  /** All versions where `version` is null. @throws ServingError MODEL_NOT_FOUND, MODEL_NOT_READY, BAD_REQUEST */
  scale(name: string, version: string | null, request: ScaleRequest): Promise<readonly ScaledPool[]>;
  /**
   * Tries models that are FAILED again, without waiting for their cool-down; others are left as they are. All versions where
   * `version` is null. Resolves when they serve.
   *
   * @throws ServingError MODEL_NOT_FOUND, and why one has failed again
   */
  retry(name: string, version: string | null): Promise<void>;
  /** Resolves when as many groups run as shall, of all versions where `version` is null. @throws ServingError: a group does not start */
  settled(name: string, version: string | null): Promise<void>;
  /** Requests without a version get this one. @throws ServingError MODEL_NOT_FOUND */
  setDefault(name: string, version: string | null): void;
  /**
   * Requests without a version go to the versions of a name by their weights; 0: only what asks for it by its version.
   *
   * @returns its share now, 0 … 1
   * @throws ServingError MODEL_NOT_FOUND; BAD_REQUEST: no version, where there are several
   */
  setWeight(name: string, version: string | null, weight: number): number;
  /** All versions where `version` is null, in the order of their registration. @throws ServingError MODEL_NOT_FOUND */
  describe(name: string, version: string | null): readonly PoolDescription[];
  /** Every pool, sorted by name and version. */
  list(): readonly PoolDescription[];
}
