/**
 * What transports may ask of workflows: models and functions that answer one request together. Plain data, the same for every dialect.
 */
import type { ContentHead, ContentPart } from './invoke-request.js';
import type { NamedTensor } from './predict-request.js';
import type { Signature } from './signature.js';

/** What passes between nodes: the parts of a body, or named tensors (ensembles). */
export type NodeValue =
  | { kind: 'content'; parts: readonly ContentPart[] }
  | { kind: 'tensors'; tensors: readonly NamedTensor[] };

/** An answer that is told as it is made. */
export interface NodeStream {
  kind: 'stream';
  head: ContentHead;
  /** Left early (its `return` is called) when nobody waits any longer. */
  chunks: AsyncGenerator<string | Uint8Array>;
  /** What is still told where it breaks after its beginning; null: it is cut. */
  broken: ((thrown: unknown) => readonly string[]) | null;
}

export interface NodeCallOptions {
  signal: AbortSignal;
  timeoutMs: number;
  /** Its answer is the workflow's: it may be told as it is made, where the model does so or the request asks for it. */
  mayStream: boolean;
}

/** Asks one model for one node; a stream only where it may. @throws ServingError */
export type NodeCall = (
  model: string,
  value: NodeValue,
  options: NodeCallOptions,
) => Promise<NodeValue | NodeStream>;

export interface WorkflowDescription {
  name: string;
  version: string | null;
  url: string;
  /** Those of tensors (an ensemble); null: it takes bodies. */
  signature: Signature | null;
  nodes: readonly {
    name: string;
    /** The registered model that answers for it. */
    model: string;
    /** Nodes that it waits for; none: the request alone. */
    after: readonly string[];
    timeoutMs: number;
    attempts: number;
  }[];
}

/** One output of several is by name. */
export type WorkflowAnswer =
  | { kind: 'one'; value: NodeValue }
  | NodeStream
  | { kind: 'named'; values: Readonly<Record<string, NodeValue>> };

export interface WorkflowRegistration {
  url: string;
  name?: string;
  byOperator?: boolean;
  after?: Promise<unknown>;
}

export interface WorkflowService {
  /**
   * Resolves when it is read and its name is taken; `ready` when its models are loaded, or rejects: nothing is left of it then.
   *
   * @param request without a name: the file's, else the URL's; `byOperator`: it was named at start; nothing is loaded before `after`
   * @throws ServingError ALREADY_REGISTERED, BAD_REQUEST, CHECKPOINT_INVALID, MODEL_NOT_FOUND
   */
  register(request: WorkflowRegistration): Promise<{ name: string; ready: Promise<void> }>;
  /** Runs that have begun end first. @throws ServingError MODEL_NOT_FOUND */
  unregister(name: string): Promise<void>;
  /** null: there is none. */
  find(name: string): WorkflowDescription | null;
  /** Sorted by name. */
  list(): readonly WorkflowDescription[];
  /** @throws ServingError MODEL_NOT_FOUND, MODEL_NOT_READY, and what a node failed with, its name before it */
  run(name: string, request: NodeValue, call: NodeCall, signal: AbortSignal): Promise<WorkflowAnswer>;
}
