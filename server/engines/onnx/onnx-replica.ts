/**
 * One life of a replica of an ONNX model: batches joined along the first axis.
 *
 * In      jobs of the queue
 * Out     Replica; a ValueEvent and the finish a job
 * Limits  batched-replica.ts
 * Errors  inputs that the model refuses are their own job's failure: a joined batch is run again job by job. A process that dies fails
 *         the jobs of its batch and ends run()
 */
import { ServingError } from '../../../proto/errors.js';
import type { NamedTensor } from '../../requests/predict-request.js';
import type { Signature, TensorSpec } from '../../requests/signature.js';
import { ELEMENT_BYTES, elementsOf } from '../../requests/tensor-types.js';
import { BatchedReplica, type BatchedReplicaOptions } from '../batched-replica.js';
import { OnnxChild } from './onnx-child.js';
import type { OnnxJob } from './onnx-job.js';
import type { SessionOptions } from './onnx-messages.js';
import { axisLengths, cut } from './padding.js';
import { joinRows, splitRows } from './tensor-batch.js';

export interface OnnxReplicaOptions extends BatchedReplicaOptions<OnnxJob> {
  file: string;
  fileBytes: number;
  session: SessionOptions;
  signature: Signature;
}

export class OnnxReplica extends BatchedReplica<OnnxJob, OnnxChild> {
  readonly #options: OnnxReplicaOptions;

  constructor(options: OnnxReplicaOptions) {
    super(options);
    this.#options = options;
  }

  protected async launch(signal: AbortSignal): Promise<OnnxChild> {
    const { config, file, fileBytes, hooks, session, signature } = this.#options;
    const limitMs = config.modelLoadingTimeoutSeconds * 1000;
    hooks.onLoading?.(0, fileBytes);
    const child = await OnnxChild.start(file, session, limitMs, signal);
    try {
      await warmUp(child, signature, limitMs);
    } catch (error) {
      await child.stop();
      throw error;
    }
    hooks.onLoading?.(fileBytes, fileBytes);
    return child;
  }

  protected async runJobs(jobs: readonly OnnxJob[], child: OnnxChild): Promise<void> {
    const apart = await this.#joined(jobs, child);
    for (const [index, job] of jobs.entries()) {
      if (job.cancelled) continue;
      try {
        this.#answer(job, apart?.[index] ?? (await this.#ask(child, job.inputs, job.request.outputs, 1)));
      } catch (error) {
        const failure = ServingError.from(error);
        if (failure.code !== 'BAD_REQUEST') throw failure;
        this.fail(job, failure);
      }
    }
  }

  /** null: the jobs are to be run one by one. */
  async #joined(jobs: readonly OnnxJob[], child: OnnxChild): Promise<NamedTensor[][] | null> {
    const [first] = jobs;
    if (!first || jobs.length < 2) return null;
    try {
      const { config, signature } = this.#options;
      const pad = config.padInputs ?? {};
      const inputs = joinRows(
        jobs.map((job) => job.inputs),
        pad,
      );
      const outputs = await this.#ask(child, inputs, first.request.outputs, jobs.length);
      const apart = splitRows(
        outputs,
        jobs.map(({ rows }) => rows),
      );
      const joined = axisLengths(inputs, signature, pad);
      if (apart === null || joined === null || joined.size === 0) return apart;
      return apart.map((own, index) =>
        own.map((output) => {
          const spec = signature.outputs.find(({ name }) => name === output.name);
          return spec ? cut(output, spec, jobs[index]!.lengths, joined) : output;
        }),
      );
    } catch (error) {
      const failure = ServingError.from(error);
      if (failure.code !== 'BAD_REQUEST') throw failure;
      return null;
    }
  }

  async #ask(
    child: OnnxChild,
    inputs: readonly NamedTensor[],
    outputs: readonly string[] | null,
    rows: number,
  ): Promise<readonly NamedTensor[]> {
    const { config, hooks } = this.#options;
    const ran = await child.run(inputs, outputs, config.stepTimeoutSeconds * 1000);
    hooks.observer?.stepDone(rows, ran.us, 0, 0);
    return ran.outputs;
  }

  #answer(job: OnnxJob, outputs: readonly NamedTensor[]): void {
    if (!job.stream.ended) job.stream.push({ kind: 'value', outputs });
    this.finish(job);
  }
}

/** The first run of a session allocates: nobody's request pays for it. A model that refuses zeros is as warm as it gets. */
async function warmUp(child: OnnxChild, { inputs }: Signature, limitMs: number): Promise<void> {
  try {
    await child.run(inputs.map(zeros), null, limitMs);
  } catch (error) {
    if (ServingError.from(error).code !== 'BAD_REQUEST') throw error;
  }
}

/** One of whatever varies; strings are empty. */
function zeros({ name, shape, type }: TensorSpec): NamedTensor {
  const one = (shape ?? [1]).map((axis) => (axis === -1 ? 1 : axis));
  return {
    name,
    type,
    shape: one,
    bytes: new Uint8Array(elementsOf(name, one) * (ELEMENT_BYTES[type] ?? 4)),
  };
}
