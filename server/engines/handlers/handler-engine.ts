/**
 * Handlers: a model that is user code in TypeScript or JavaScript, in a process a replica; requests reach it as they came.
 *
 * In      a folder with model.ts, model.mts, model.mjs or model.js, or the file that option.entryPoint names (`file.ts:name`)
 * Out     Engine; a handler with a checkpoint has a language model to ask, a model of the server's own beside it
 * Limits  option.handler_memory_mb a process; batch_size requests at once, max_batch_delay; option.step_timeout until an answer or its next piece
 * Errors  CHECKPOINT_INVALID: no such file, or it cannot be loaded; HANDLER_FAILED: it threw, or answered wrongly
 */
import { ServingError } from '../../../proto/errors.js';
import type { ModelConfig } from '../../config/config.js';
import { usableCores } from '../../machine/machine-limits.js';
import { type MemoryNeed, MIB } from '../../machine/memory-need.js';
import type { JobRequest, Task } from '../../requests/service.js';
import type { BatchedReplicaOptions } from '../batched-replica.js';
import type { Engine, PreparedModel, PrepareOptions, Replica } from '../engine.js';
import { type JobBasis, WholeRequestModel } from '../whole-request-model.js';
import type { BoundModel, OpenBoundModel } from './bound-model.js';
import { handlerEntryOf } from './handler-entry.js';
import { HandlerJob } from './handler-job.js';
import type { HandlerEntry } from './handler-messages.js';
import { HandlerReplica } from './handler-replica.js';

/** A process without anything of its handler's. */
const PROCESS_BYTES = 96 * MIB;

export class HandlerEngine implements Engine {
  readonly #open: OpenBoundModel | null;

  /** @param open a language model for a handler; null: handlers ask none */
  constructor(open: OpenBoundModel | null = null) {
    this.#open = open;
  }

  async prepare(config: ModelConfig, { onNeed, signal }: PrepareOptions): Promise<PreparedModel> {
    const entry = handlerEntryOf(config.folder, config.entryPoint);
    const need = needOf(config.requiredMemoryMb);
    onNeed(() => need);
    const { boundModel } = config;
    const bound = boundModel === null || this.#open === null ? null : await this.#open(boundModel, signal);
    return new HandlerModel(config, entry, need, bound);
  }
}

class HandlerModel extends WholeRequestModel<HandlerJob> {
  readonly task: Task = 'handler';
  readonly #entry: HandlerEntry;
  readonly #bound: BoundModel | null;

  constructor(config: ModelConfig, entry: HandlerEntry, need: MemoryNeed, bound: BoundModel | null) {
    super(config, need);
    this.#entry = entry;
    this.#bound = bound;
  }

  override async close(): Promise<void> {
    await this.#bound?.close();
  }

  protected jobOf(request: JobRequest, basis: JobBasis): HandlerJob {
    if (request.kind === 'invoke') return new HandlerJob({ ...basis, request });
    throw new ServingError(
      'BAD_REQUEST',
      `Model ${this.config.name} is a handler: ask it at /predictions/${this.config.name}`,
    );
  }

  protected replicaOf(options: BatchedReplicaOptions<HandlerJob>): Replica {
    const { batchSize, handlerMemoryMb, name, version } = this.config;
    return new HandlerReplica({
      ...options,
      bound: this.#bound,
      setup: {
        entry: this.#entry,
        modelName: name,
        modelVersion: version,
        batchSize,
        threads: Math.max(1, Math.min(options.threads, usableCores())),
        memoryMb: handlerMemoryMb,
        hasModel: this.#bound !== null,
        properties: {},
      },
    });
  }
}

/** What a handler will take is not known; `required_memory_mb` says it. */
function needOf(requiredMb: number): MemoryNeed {
  const totalBytes = requiredMb > 0 ? requiredMb * MIB : PROCESS_BYTES;
  return { weightBytes: 0, kvBytes: 0, workspaceBytes: totalBytes, totalBytes };
}
