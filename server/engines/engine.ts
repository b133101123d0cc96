/**
 * What serves a model: the contract between the work load manager and everything that can run one.
 *
 * Life    prepare (files, plan, what is quick to refuse) → fit (sizes for the memory there is) → accept requests, run replicas
 * Split   the manager keeps names, queues, scaling, memory and supervision, and knows no token and no tensor; an engine knows how a
 *         request becomes a job of its own and how a replica runs jobs, and knows no other model
 * Errors  ServingError; an engine's own bugs are its replica's death
 *
 * A new engine is a folder beside llm/ and its line in server/all-engines.ts. One that answers whole requests begins with
 * WholeRequestModel and BatchedReplica; a toy of that kind is in test/integration/engines/toy-engine.test.ts.
 */
import type { Logger } from 'pino';
import type { ModelConfig } from '../config/config.js';
import type { Taker } from '../jobs/fair-share.js';
import type { Job } from '../jobs/job.js';
import type { JobQueue } from '../jobs/job-queue.js';
import type { GroupSample, SlotFreed, WorkObserver } from '../jobs/work-observer.js';
import type { MemoryNeed } from '../machine/memory-need.js';
import type { AnswerFormat } from '../requests/answer-format.js';
import type { ModelTokens } from '../requests/model-tokens.js';
import type { JobRequest, Task } from '../requests/service.js';
import type { Signature } from '../requests/signature.js';
import type { TextLabels } from '../requests/text-labels.js';

export interface Engine {
  /** What can be said against a model in a moment, before others load; nothing is written. Absent: nothing. @throws ServingError */
  check?(config: ModelConfig, signal: AbortSignal): Promise<void>;
  /** Everything that is needed of a model before a replica can start. @throws ServingError: nothing was left running */
  prepare(config: ModelConfig, options: PrepareOptions): Promise<PreparedModel>;
}

export interface PrepareOptions {
  signal: AbortSignal;
  /** Called before anything is written, with what a replica will need where so much is free; it may throw OUT_OF_MEMORY. */
  onNeed: (needWhere: (freeBytes: number) => MemoryNeed) => void;
  onProgress: (doneBytes: number, totalBytes: number) => void;
  /** What is done without progress, in a sentence. */
  onNotice?: (sentence: string) => void;
}

export interface PreparedModel {
  readonly task: Task;
  /** What it takes and gives, of a model of tensors; null: no tensors. */
  readonly signature: Signature | null;
  /** Processes of a replica. */
  readonly worldSize: number;
  /** What they compute on; absent: cpu. */
  readonly device?: string;
  /** Keys of the model's own files that would change an answer elsewhere, and do nothing here. */
  readonly unservedKeys: readonly string[];
  /** What it was taken for; a sentence. */
  readonly takenFor?: string;
  /** How its answers say what it thinks and calls; null or absent: they are text. */
  readonly answerFormat?: AnswerFormat | null;
  /** Labels of a classifier of texts or tokens; null or absent: it is none. */
  readonly labels?: TextLabels | null;
  /** What its operator should know; a sentence each. */
  readonly notes?: readonly string[];
  /** Sizes for the memory that is free now: of every replica until the model is closed. @throws ServingError OUT_OF_MEMORY */
  fit(freeBytes: number): FittedModel;
  /** Ends what belongs to no replica. */
  close(): Promise<void>;
}

/** When a request came, and what its job is called. */
export interface Arrival {
  jobId: number;
  receivedAtMs: number;
  /** Aborted when the client goes away. */
  signal: AbortSignal;
}

export interface FittedModel {
  /** Tokens of a request and its answer together; 0: it counts none. */
  readonly contextLength: number;
  /** One replica's. */
  readonly need: MemoryNeed;
  /** Absent: it knows no tokens. */
  readonly tokens?: ModelTokens;
  /** Replicas that there are devices for; absent: memory alone is the bound. */
  readonly mostReplicas?: number;
  /** Devices of one more replica, which keeps them over all its lives. Absent: the CPU is shared. @throws ServingError OUT_OF_MEMORY: all are taken */
  claimDevices?(): DeviceClaim;
  /**
   * @returns the job, which is to be queued for this model's replicas, and what it counts
   * @throws ServingError: nothing reached a replica. BAD_REQUEST also: a kind of request that the model does not answer
   */
  accept(request: JobRequest, arrival: Arrival): Promise<{ job: Job; promptTokens: number }>;
  /** One life of a replica: one that has died is replaced by a new one. */
  newReplica(options: ReplicaOptions): Replica;
}

export interface DeviceClaim {
  /** Number of each process's device, by rank. */
  readonly devices: readonly number[];
  giveBack(): void;
}

export interface ReplicaOptions {
  /** Jobs that this model has accepted; shared by its replicas. */
  queue: JobQueue;
  /** Each of its processes has so many. */
  threads: number;
  /** What was claimed for it; absent: nothing was. */
  devices?: readonly number[];
  /** Others run on this machine's cores. */
  sharesCores: boolean;
  /** Jobs of the queue that it may take now. */
  mayStart: () => number;
  /** A replica of the model could start jobs at once. Absent: no other one could. */
  othersHaveRoom?: () => boolean;
  /** Nothing runs (true), or there is something again. A new replica is idle. */
  onIdle: (idle: boolean) => void;
  logger: Logger;
  hooks: ReplicaHooks;
}

/** Who wants to see what replicas do. */
export interface ReplicaHooks {
  /** Bytes of weights loaded, of all processes. */
  onLoading?: (doneBytes: number, totalBytes: number) => void;
  onJobStarted?: (job: Job) => void;
  onSlotFreed?: (event: SlotFreed) => void;
  observer?: WorkObserver;
}

export type ReplicaSample = Omit<GroupSample, 'key' | 'state'>;

/** What the metrics read of a replica that does not run. */
export const NO_SAMPLE: ReplicaSample = {
  sequencesRunning: 0,
  slots: 0,
  kvTokensUsed: 0,
  kvTokensCapacity: 0,
  kvTokensWarm: 0,
  kvTokensSwapped: 0,
  inspect: null,
};

export interface Replica {
  /** Starts its processes. @throws ServingError: none is left */
  start(signal: AbortSignal): Promise<void>;
  /** Runs jobs until drain() and they are done. Rejects when it has died: every job it had started is in the queue again, or has ended with the error. */
  run(): Promise<void>;
  /** Takes no job any more; run() resolves when those that run have ended. */
  drain(): void;
  /** Ends its processes, a hung one by force; may be called at any time, and again. */
  stop(): Promise<void>;
  /** None of its processes looks as if it hangs; absent: nobody looks. */
  readonly isResponsive?: boolean;
  /** It has done a step or a batch: what it died of is no fault of its start. Absent: nobody knows. */
  readonly hasWorked?: boolean;
  /**
   * So many deaths, the one it died of among them, were a request's fault by what is known now: nothing is wrong with the model. 0 or
   * absent: none.
   */
  readonly deathsOfRequests?: number;
  /** × its peers, where a process holds them up; null: it does not. Absent: nobody looks. */
  slowerThanPeers?(rank: number): number | null;
  /** What it runs and has room for. */
  readonly load: Taker;
  /** Its processes', by rank. */
  readonly pids: readonly (number | undefined)[];
  sample(): ReplicaSample;
}
