/**
 * The server's end of a process that runs an ONNX model (onnx-process.ts).
 *
 * In      the model's file, session options; batches, one after the other
 * Out     the signature; outputs of each batch; `failed`, when the process is gone
 * Limits  loading and batches have deadlines: a process that misses one is killed
 * Errors  CHECKPOINT_INVALID: ONNX Runtime does not load the file; BAD_REQUEST: it refuses the inputs; WORKER_FAILED, STEP_TIMEOUT
 */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { ServingError } from '../../../proto/errors.js';
import { bareEnvironment } from '../../model-store/bare-environment.js';
import type { NamedTensor } from '../../requests/predict-request.js';
import type { Signature } from '../../requests/signature.js';
import type { FromOnnx, SessionOptions, ToOnnx } from './onnx-messages.js';

const PROGRAM = fileURLToPath(new URL('./onnx-process.js', import.meta.url));
/** A process that was asked to end gets so long. */
const STOP_GRACE_MS = 2000;

interface Waiting {
  resolve(message: FromOnnx): void;
  reject(error: ServingError): void;
}

export class OnnxChild {
  readonly signature: Signature;
  /** Resolves with why, when the process is gone without having been stopped. */
  readonly failed: Promise<ServingError>;
  readonly #link: Link;
  #nextId = 1;

  private constructor(link: Link, signature: Signature) {
    this.#link = link;
    this.signature = signature;
    this.failed = link.failed;
  }

  /** @throws ServingError: no process is left */
  static async start(
    file: string,
    options: SessionOptions,
    limitMs: number,
    signal: AbortSignal,
  ): Promise<OnnxChild> {
    const link = new Link();
    const onAbort = (): void => link.kill(new ServingError('SHUTTING_DOWN', 'The model is being stopped'));
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      signal.throwIfAborted();
      const answer = await link.ask({ kind: 'load', file, options }, limitMs, 'did not load its model');
      if (answer.kind === 'failed') {
        throw new ServingError(
          'CHECKPOINT_INVALID',
          `${file} is not loaded by ONNX Runtime: ${answer.message}`,
        );
      }
      assert(answer.kind === 'loaded');
      return new OnnxChild(link, answer.signature);
    } catch (error) {
      await link.stop();
      throw error;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  get pid(): number | undefined {
    return this.#link.pid;
  }

  /** @throws ServingError */
  async run(
    inputs: readonly NamedTensor[],
    outputs: readonly string[] | null,
    limitMs: number,
  ): Promise<{ outputs: readonly NamedTensor[]; us: number }> {
    const id = this.#nextId++;
    const answer = await this.#link.ask({ kind: 'run', id, inputs, outputs }, limitMs, 'did not end a batch');
    if (answer.kind === 'refused') throw new ServingError('BAD_REQUEST', answer.message.slice(0, 2000));
    assert(answer.kind === 'ran' && answer.id === id, 'batches are answered in order');
    return { outputs: answer.outputs, us: answer.us };
  }

  stop(): Promise<void> {
    return this.#link.stop();
  }
}

/** A process, and the one question that is open. */
class Link {
  readonly failed: Promise<ServingError>;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  #waiting: Waiting | null = null;
  #error: ServingError | null = null;
  #isStopping = false;

  constructor() {
    this.#child = fork(PROGRAM, [], {
      env: bareEnvironment(),
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    let tellFailed = (_error: ServingError): void => {};
    this.failed = new Promise((resolve) => {
      tellFailed = resolve;
    });
    this.#exited = new Promise((resolve) => {
      const gone = (how: string): void => {
        const error =
          this.#error ?? new ServingError('WORKER_FAILED', `The process of the ONNX model ${how}`);
        this.#error = error;
        this.#waiting?.reject(error);
        this.#waiting = null;
        if (!this.#isStopping) tellFailed(error);
        resolve();
      };
      this.#child.once('exit', (code, signal) => gone(`ended by ${signal ?? `code ${code}`}`));
      this.#child.once('error', (error) => gone(`failed: ${error.message}`));
    });
    this.#child.on('message', (message: FromOnnx) => {
      const waiting = this.#waiting;
      this.#waiting = null;
      waiting?.resolve(message);
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  async ask(message: ToOnnx, limitMs: number, missed: string): Promise<FromOnnx> {
    assert(this.#waiting === null, 'one question at a time');
    if (this.#error) throw this.#error;
    const timer = setTimeout(
      () =>
        this.kill(
          new ServingError('STEP_TIMEOUT', `The process of the ONNX model ${missed} in ${limitMs} ms`),
        ),
      limitMs,
    );
    try {
      return await new Promise<FromOnnx>((resolve, reject) => {
        this.#waiting = { resolve, reject };
        // A channel that is broken is told by the exit.
        this.#child.send(message, () => {});
      });
    } finally {
      clearTimeout(timer);
    }
  }

  kill(error: ServingError): void {
    this.#error ??= error;
    this.#child.kill('SIGKILL');
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    if (this.#child.connected) this.#child.disconnect();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_GRACE_MS);
    await this.#exited;
    clearTimeout(timer);
  }
}
