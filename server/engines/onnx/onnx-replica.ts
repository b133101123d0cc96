/**
 * One life of a replica of an ONNX model: batches joined along the first axis.
 *
 * In      jobs of the queue
 * Out     Replica; a ValueEvent and the finish a job
 * Limits  batched-replica.ts
 * Errors  inputs that the model refuses are their own job's failure: a joined batch is run again job by job. A process that dies:
 *         batched-replica.ts
 */
import { ServingError } from '../../../proto/errors.js';
import { MAX_WARM_UP_BYTES, type WarmUp } from '../../config/foreign-layout.js';
import type { NamedTensor } from '../../requests/predict-request.js';
import type { Signature, TensorSpec } from '../../requests/signature.js';
import { ELEMENT_BYTES, elementsOf } from '../../requests/tensor-types.js';
import { ALL_TOLD, type Answers, BatchedReplica, type BatchedReplicaOptions } from '../batched-replica.js';
import { OnnxChild } from './onnx-child.js';
import type { OnnxJob } from './onnx-job.js';
import type { SessionOptions } from './onnx-messages.js';
import { type AxisLengths, axisLengths, cut, joinedBytes } from './padding.js';
import { hasRowOfEach, joinRows, splitRows } from './tensor-batch.js';

/** One long request makes all that it is joined with as long. */
const MAX_JOINED_BYTES = 256 * 1024 * 1024;

export interface OnnxReplicaOptions extends BatchedReplicaOptions<OnnxJob> {
  file: string;
  fileBytes: number;
  session: SessionOptions;
  signature: Signature;
}

export class OnnxReplica extends BatchedReplica<OnnxJob, OnnxChild> {
  /** A run is its inputs and nothing else: nobody sees that one lies ready. */
  protected override readonly runsAhead = true;
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
      await warmUp(child, signature, config.repository?.warmUps ?? [], limitMs);
    } catch (error) {
      await child.stop();
      throw error;
    }
    hooks.onLoading?.(fileBytes, fileBytes);
    return child;
  }

  protected async runJobs(jobs: readonly OnnxJob[], child: OnnxChild): Promise<Answers> {
    const answers = jobs.length < 2 ? null : await this.#joined(jobs, child);
    if (answers !== null) return answers;
    await this.runApart(jobs, async (job) => {
      try {
        this.#answer(job, await this.#ask(child, job.inputs, [job]));
      } catch (error) {
        const failure = ServingError.from(error);
        if (failure.code !== 'BAD_REQUEST') throw failure;
        this.fail(job, failure);
      }
    });
    return ALL_TOLD;
  }

  /** null: the jobs are to be run one by one. */
  async #joined(jobs: readonly OnnxJob[], child: OnnxChild): Promise<Answers | null> {
    const pad = this.#options.config.padInputs ?? {};
    const apartInputs = jobs.map((job) => job.inputs);
    if (joinedBytes(apartInputs) > MAX_JOINED_BYTES) return null;
    const inputs = joinRows(apartInputs, pad);
    let outputs: readonly NamedTensor[];
    try {
      outputs = await this.#ask(child, inputs, jobs);
    } catch (error) {
      const failure = ServingError.from(error);
      if (failure.code !== 'BAD_REQUEST') throw failure;
      return null;
    }
    const rows = jobs.map((job) => job.rows);
    if (!hasRowOfEach(outputs, rows)) return null;
    const apart = this.#cut(
      splitRows(outputs, rows),
      jobs,
      axisLengths(inputs, this.#options.signature, pad),
    );
    return () => {
      for (const [index, job] of jobs.entries()) if (!job.cancelled) this.#answer(job, apart[index]!);
    };
  }

  /** What each job's own lengths leave of its outputs. @param joined of the inputs together */
  #cut(apart: NamedTensor[][], jobs: readonly OnnxJob[], joined: AxisLengths | null): NamedTensor[][] {
    if (joined === null || joined.size === 0) return apart;
    const { outputs } = this.#options.signature;
    return apart.map((own, index) =>
      own.map((output) => {
        const spec = outputs.find(({ name }) => name === output.name);
        return spec ? cut(output, spec, jobs[index]!.lengths, joined) : output;
      }),
    );
  }

  async #ask(
    child: OnnxChild,
    inputs: readonly NamedTensor[],
    jobs: readonly OnnxJob[],
  ): Promise<readonly NamedTensor[]> {
    const { config, hooks } = this.#options;
    const { outputs } = jobs[0]!.request;
    const limitMs = config.stepTimeoutSeconds * 1000;
    const ran = await child.run(inputs, outputs, limitMs, () => this.begins(jobs));
    hooks.observer?.stepDone(jobs.length, ran.us, 0, 0);
    return ran.outputs;
  }

  #answer(job: OnnxJob, outputs: readonly NamedTensor[]): void {
    if (!job.stream.ended) job.stream.push({ kind: 'value', outputs });
    this.finish(job);
  }
}

/**
 * The first run of a session allocates: nobody's request pays for it. A model that refuses zeros, or would need too many, is as warm as it
 * gets.
 */
async function warmUp(
  child: OnnxChild,
  { inputs }: Signature,
  asked: readonly WarmUp[],
  limitMs: number,
): Promise<void> {
  for (const { runs, shapes } of [{ runs: 1, shapes: {} }, ...asked]) {
    try {
      for (let run = 0; run < runs; run++)
        await child.run(
          inputs.map((spec) => zeros(spec, Object.hasOwn(shapes, spec.name) ? shapes[spec.name] : undefined)),
          null,
          limitMs,
        );
    } catch (error) {
      if (ServingError.from(error).code !== 'BAD_REQUEST') throw error;
    }
  }
}

/** One of whatever varies; strings are empty. @param asked another shape */
function zeros({ name, shape, type }: TensorSpec, asked?: readonly number[]): NamedTensor {
  const own = asked ?? (shape ?? [1]).map((axis) => (axis === -1 ? 1 : axis));
  const bytes = elementsOf(name, own) * (ELEMENT_BYTES[type] ?? 4);
  if (bytes > MAX_WARM_UP_BYTES) {
    const sentence = `${name} would have ${bytes} bytes of zeros, of at most ${MAX_WARM_UP_BYTES}`;
    throw new ServingError('BAD_REQUEST', sentence);
  }
  return { name, type, shape: own, bytes: new Uint8Array(bytes) };
}
