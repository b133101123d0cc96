/**
 * What a caller tells the model store, and what it gets back.
 *
 * Plain data: made by server/config, read by every file here.
 */
import type { RegistrationFolders } from './registration-folders.js';

/** What may be fetched, and how much of it. Hosts and limits come from the operator, URLs from anybody. */
export interface FetchPolicy {
  /**
   * Hosts of http(s) URLs and of their redirects; empty: http(s) is off. `name` and `name:port` allow that host whatever its
   * address; `*.name` and `*` allow hosts with public addresses only.
   */
  allowedHosts: readonly string[];
  /** One model's, over all its files. */
  maxDownloadBytes: number;
  /** One model's, over all entries of its archive. */
  maxUnpackedBytes: number;
  /** Entries of an archive; files of a hub repository or an S3 prefix. */
  maxEntries: number;
  /** Unpacked bytes for each byte of the archive. */
  maxCompressionRatio: number;
  /** Base URL of the hub, without a path for the public one. */
  hubEndpoint: string;
  /** Sent to hubEndpoint only. */
  hubToken: string | null;
  /** null: Amazon's, by region. */
  s3Endpoint: string | null;
  /** Nothing is connected to: a model is in the cache, or is not to be had. */
  offline: boolean;
  /** All models that were fetched, together; the least recently used go first, those in use never. */
  maxCacheBytes: number;
  /** Absolute folder that relative paths start from. */
  modelStore: string;
}

export interface FetchProgress {
  stage: 'download' | 'verify' | 'unpack';
  doneBytes: number;
  /** null: the server does not say. */
  totalBytes: number | null;
}

export interface FetchOptions {
  url: string;
  /** Absolute folder of what is downloaded and unpacked; made when it is missing. */
  downloadFolder: string;
  policy: FetchPolicy;
  /** Where a path may lie that is not the operator's; absent or null: anywhere. */
  within?: RegistrationFolders | null;
  signal?: AbortSignal;
  onProgress?: (progress: FetchProgress) => void;
  /** What the operator should know though the fetch goes on. */
  onWarning?: (sentence: string) => void;
}

export interface FetchedModel {
  /** Absolute; holds config.json or serving.properties. */
  folder: string;
  /** The cache's: give it back with releaseModel when the model goes, so that room can be made of it. */
  owned: boolean;
  /** Last path segment without an archive's extension (of a hub model the whole id), `\W` → `_`. */
  suggestedName: string;
}
