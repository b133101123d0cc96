/**
 * What models have in common that answer whole requests in a process a replica: no tokens, nothing to size by the memory that is free,
 * and nothing outside their replicas.
 *
 * In      configuration, what a replica needs
 * Out     PreparedModel and FittedModel in one; the engine says how a request becomes a job and what a replica is
 */
import type { ModelConfig } from '../config/config.js';
import { systemClock } from '../jobs/clock.js';
import type { JobQueue } from '../jobs/job-queue.js';
import type { MemoryNeed } from '../machine/memory-need.js';
import type { JobRequest, Task } from '../requests/service.js';
import type { Signature } from '../requests/signature.js';
import type { BatchedJob, BatchedReplicaOptions } from './batched-replica.js';
import type { Arrival, FittedModel, PreparedModel, Replica, ReplicaOptions } from './engine.js';

/** What every job is made of. */
export interface JobBasis {
  id: number;
  receivedAtMs: number;
  queuedAtMs: number;
}

export abstract class WholeRequestModel<J extends BatchedJob> implements PreparedModel, FittedModel {
  abstract readonly task: Task;
  readonly signature: Signature | null;
  readonly worldSize = 1;
  readonly unservedKeys: readonly string[] = [];
  readonly contextLength = 0;
  readonly need: MemoryNeed;
  protected readonly config: ModelConfig;

  constructor(config: ModelConfig, need: MemoryNeed, signature: Signature | null = null) {
    this.config = config;
    this.need = need;
    this.signature = signature;
  }

  /** @throws ServingError BAD_REQUEST: a kind of request that it does not answer, or one that it cannot */
  protected abstract jobOf(request: JobRequest, basis: JobBasis): J;
  protected abstract replicaOf(options: BatchedReplicaOptions<J>): Replica;

  /** It needs what it needs. */
  fit(): FittedModel {
    return this;
  }

  async close(): Promise<void> {}

  async accept(
    request: JobRequest,
    { jobId, receivedAtMs }: Arrival,
  ): Promise<{ job: J; promptTokens: number }> {
    const job = this.jobOf(request, { id: jobId, receivedAtMs, queuedAtMs: systemClock.nowMs() });
    return { job, promptTokens: 0 };
  }

  newReplica({ queue, ...options }: ReplicaOptions): Replica {
    // What accept() made is all there is in it.
    return this.replicaOf({ ...options, config: this.config, queue: queue as JobQueue<J> });
  }
}
