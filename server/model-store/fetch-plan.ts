/**
 * What a source (http, hub, s3, a local archive) tells before anything is written: which content it has, and how to get it.
 */
import type { FetchPolicy, FetchProgress } from './fetch-policy.js';

export interface FillContext {
  policy: FetchPolicy;
  signal: AbortSignal;
  onProgress(progress: FetchProgress): void;
}

export interface FetchPlan {
  /** For messages, without secrets. */
  display: string;
  suggestedName: string;
  /** Names the content: the same identity may be served from an earlier fetch. null: the source can't tell. */
  identity: string | null;
  /** ETag or date of an http(s) source, for the question whether it has changed; absent: none. */
  validator?: string | null;
  /** An archive that is already on this machine; otherwise `fill` downloads. */
  localArchive: string | null;
  /**
   * Puts the files into `folder`, verified. Files of an interrupted call may be there and are continued.
   *
   * @throws ServingError; its cause is a TransportError when the files so far are worth keeping
   */
  fill(folder: string, context: FillContext): Promise<void>;
  /** Lets go of what was opened for the plan. */
  close(): void;
}
