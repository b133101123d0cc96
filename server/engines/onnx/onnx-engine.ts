/**
 * Any ONNX model by ONNX Runtime: tensors in, tensors out. A process a replica; requests are joined along the first axis.
 *
 * In      the file that its layout names, or a folder with one `.onnx` file (and its external data), or with `model.onnx` among several
 * Out     Engine
 * Limits  the CPU; option.onnx_memory_mb a process; batch_size rows at once where the model's first axes vary
 * Errors  CHECKPOINT_INVALID: no such file, or ONNX Runtime does not load it; BAD_REQUEST: inputs that do not fit
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { ServingError } from '../../../proto/errors.js';
import type { ModelConfig } from '../../config/config.js';
import type { RepositoryModel } from '../../config/foreign-layout.js';
import { usableCores } from '../../machine/machine-limits.js';
import { type MemoryNeed, MIB } from '../../machine/memory-need.js';
import type { JobRequest, Task } from '../../requests/service.js';
import type { Signature } from '../../requests/signature.js';
import type { BatchedReplicaOptions } from '../batched-replica.js';
import type { Engine, PreparedModel, PrepareOptions, Replica } from '../engine.js';
import { type JobBasis, WholeRequestModel } from '../whole-request-model.js';
import { feedsOf } from './feeds.js';
import { OnnxChild } from './onnx-child.js';
import { OnnxJob } from './onnx-job.js';
import type { SessionOptions } from './onnx-messages.js';
import { OnnxReplica } from './onnx-replica.js';
import { axisLengths, checkPadding, NO_PADDING } from './padding.js';
import { batchKey, canBatch, rowsOf } from './tensor-batch.js';

/** A process without a model: Node and ONNX Runtime. */
const PROCESS_BYTES = 128 * MIB;

export class OnnxEngine implements Engine {
  async prepare(config: ModelConfig, { onNeed, signal }: PrepareOptions): Promise<PreparedModel> {
    const file =
      config.modelFile === null ? onnxFileIn(config.folder) : path.join(config.folder, config.modelFile);
    if (/\.ort$/i.test(file)) {
      const why =
        "is in ONNX Runtime's own format, which is read unchecked: give the .onnx file that it was made of";
      throw new ServingError('CHECKPOINT_INVALID', `${file} ${why}`);
    }
    // External data may be anywhere below.
    const fileBytes = bytesIn(path.dirname(file));
    const need = needOf(fileBytes, config.requiredMemoryMb);
    onNeed(() => need);
    // What the file says of its inputs; a file that does not load is told before anything is started.
    const child = await OnnxChild.start(
      file,
      sessionOptions(config, 1),
      config.modelLoadingTimeoutSeconds * 1000,
      signal,
    );
    const { signature } = child;
    await child.stop();
    checkPadding(config.padInputs ?? {}, signature);
    if (config.repository) checkDeclared(config.repository, signature);
    return new OnnxModel(config, file, fileBytes, signature, need);
  }
}

class OnnxModel extends WholeRequestModel<OnnxJob> {
  readonly task: Task = 'tensors';
  declare readonly signature: Signature;
  readonly #file: string;
  readonly #fileBytes: number;
  readonly #canBatch: boolean;

  constructor(config: ModelConfig, file: string, fileBytes: number, signature: Signature, need: MemoryNeed) {
    super(config, need, signature);
    this.#file = file;
    this.#fileBytes = fileBytes;
    this.#canBatch = canBatch(signature);
  }

  protected jobOf(request: JobRequest, basis: JobBasis): OnnxJob {
    if (request.kind !== 'predict') {
      throw new ServingError(
        'BAD_REQUEST',
        `Model ${this.config.name} is an ONNX model: it takes tensors (inputs: ${this.signature.inputs
          .map(({ name }) => name)
          .join(', ')}) and makes no text`,
      );
    }
    const inputs = feedsOf(request, this.signature);
    const padInputs = this.config.padInputs ?? NO_PADDING;
    const lengths = axisLengths(inputs, this.signature, padInputs);
    const rows = this.#canBatch && lengths !== null ? rowsOf(inputs) : null;
    return new OnnxJob({
      ...{ ...basis, request, inputs },
      batchKey: rows === null ? null : batchKey(inputs, request.outputs, this.signature, padInputs),
      rows: rows ?? 1,
      lengths: lengths ?? new Map(),
    });
  }

  protected replicaOf(options: BatchedReplicaOptions<OnnxJob>): Replica {
    return new OnnxReplica({
      ...options,
      file: this.#file,
      fileBytes: this.#fileBytes,
      signature: this.signature,
      session: sessionOptions(this.config, options.threads),
    });
  }
}

/** What config.pbtxt says of a model's tensors, against the file. @throws ServingError CHECKPOINT_INVALID */
function checkDeclared({ warmUps, ...declared }: RepositoryModel, signature: Signature): void {
  const warmed = warmUps.flatMap(({ shapes }) => Object.keys(shapes));
  const named = { inputs: [...declared.inputs, ...warmed], outputs: declared.outputs };
  for (const side of ['inputs', 'outputs'] as const) {
    const own = signature[side].map(({ name }) => name);
    const other = named[side].find((name) => !own.includes(name));
    if (other === undefined) continue;
    const sentence = `config.pbtxt names the ${side.slice(0, -1)} ${other}, but the model has ${own.join(', ')}`;
    throw new ServingError('CHECKPOINT_INVALID', sentence);
  }
}

const sessionOptions = (
  { executionMode, interOpThreads, onnxMemoryMb, optLevel }: ModelConfig,
  threads: number,
): SessionOptions => ({
  intraOpThreads: Math.max(1, Math.min(threads, usableCores())),
  interOpThreads,
  optimisation: OPTIMISATION[optLevel],
  parallel: executionMode === 'PARALLEL',
  memoryMb: onnxMemoryMb,
});

/** DJLServing's words and ONNX Runtime's. */
const OPTIMISATION = {
  NO_OPT: 'disabled',
  BASIC_OPT: 'basic',
  EXTENDED_OPT: 'extended',
  ALL_OPT: 'all',
} as const;

/** Weights are there twice while ONNX Runtime optimises; activations are not known. */
function needOf(fileBytes: number, requiredMb: number): MemoryNeed {
  const workspaceBytes = PROCESS_BYTES + fileBytes;
  const totalBytes = requiredMb > 0 ? requiredMb * MIB : fileBytes + workspaceBytes;
  return { weightBytes: fileBytes, kvBytes: 0, workspaceBytes, totalBytes };
}

/** @throws ServingError CHECKPOINT_INVALID */
function onnxFileIn(folder: string): string {
  const usual = path.join(folder, 'model.onnx');
  if (existsSync(usual)) return usual;
  const found = readdirSync(folder).filter((name) => name.endsWith('.onnx'));
  if (found.length === 1) return path.join(folder, found[0]!);
  throw new ServingError(
    'CHECKPOINT_INVALID',
    found.length === 0
      ? `there is no .onnx file in ${folder}`
      : `${folder} has ${found.length} .onnx files, none of them model.onnx: ${found.slice(0, 5).join(', ')}`,
  );
}

const bytesIn = (folder: string): number =>
  readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(path.join(folder, entry.name)).size, 0);
