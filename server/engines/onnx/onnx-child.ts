/**
 * The server's end of a process that runs an ONNX model (onnx-process.ts).
 *
 * In      the model's file, session options; batches, of which one may lie ready while another runs
 * Out     the signature; outputs of each batch; `failed`, when the process is gone
 * Limits  loading and batches have deadlines: a process that misses one is killed
 * Errors  CHECKPOINT_INVALID: ONNX Runtime does not load the file; BAD_REQUEST: it refuses the inputs; WORKER_FAILED, STEP_TIMEOUT
 */
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { ServingError } from '../../../proto/errors.js';
import type { NamedTensor } from '../../requests/predict-request.js';
import type { Signature } from '../../requests/signature.js';
import { type ChildLink, startedChild } from '../child-link.js';
import type { FromOnnx, SessionOptions, ToOnnx } from './onnx-messages.js';

const PROGRAM = fileURLToPath(new URL('./onnx-process.js', import.meta.url));

const MAX_WORDS = 2000;
const REMEDY =
  'set option.onnx_memory_mb, send less at once, lower batch_size or maxWorkers, or give the server more memory';

export class OnnxChild {
  readonly signature: Signature;
  /** Resolves with why, when the process is gone without having been stopped. */
  readonly failed: Promise<ServingError>;
  readonly #link: ChildLink<ToOnnx, FromOnnx>;
  #nextId = 1;

  private constructor(link: ChildLink<ToOnnx, FromOnnx>, signature: Signature) {
    this.#link = link;
    this.signature = signature;
    this.failed = link.failed;
  }

  /** @throws ServingError: no process is left */
  static start(
    file: string,
    options: SessionOptions,
    limitMs: number,
    signal: AbortSignal,
  ): Promise<OnnxChild> {
    const program = { program: PROGRAM, what: 'process of the ONNX model', remedy: REMEDY };
    return startedChild<ToOnnx, FromOnnx, OnnxChild>(program, signal, async (link) => {
      const answer = await link.ask(
        { kind: 'load', file, options },
        { limitMs, missed: 'did not load its model' },
      );
      if (answer.kind === 'failed') {
        throw new ServingError(
          'CHECKPOINT_INVALID',
          `${file} is not loaded by ONNX Runtime: ${answer.message.slice(0, MAX_WORDS)}`,
        );
      }
      assert(answer.kind === 'loaded');
      return new OnnxChild(link, answer.signature);
    });
  }

  get pid(): number | undefined {
    return this.#link.pid;
  }

  /** @param onBegun none is before it any more. @throws ServingError */
  async run(
    inputs: readonly NamedTensor[],
    outputs: readonly string[] | null,
    limitMs: number,
    onBegun?: () => void,
  ): Promise<{ outputs: readonly NamedTensor[]; us: number }> {
    const id = this.#nextId++;
    const answer = await this.#link.ask(
      { kind: 'run', id, inputs, outputs },
      { limitMs, missed: 'did not end a batch', ...(onBegun && { onBegun }) },
    );
    if (answer.kind === 'refused') throw new ServingError('BAD_REQUEST', answer.message.slice(0, MAX_WORDS));
    assert(answer.kind === 'ran' && answer.id === id, 'batches are answered in order');
    return { outputs: answer.outputs, us: answer.us };
  }

  stop(): Promise<void> {
    return this.#link.stop();
  }
}
