/**
 * The server's end of a process that runs one model: questions, answered in order, notices in between, and its end.
 *
 * In      a program that speaks over its channel (structured clone)
 * Out     its answers; `failed`, when the process is gone without having been stopped, and what it had said is read; lines that it
 *         prints, where somebody reads them
 * Limits  MOST_QUESTIONS at a time, the second of which lies in the process until the first is answered: then it begins. From then on it has
 *         its deadline, which begins anew with every notice: a process that misses it is killed
 * Errors  WORKER_FAILED: it is gone, ended by the kernel for want of memory with the figures; STEP_TIMEOUT: it was killed for its deadline; SHUTTING_DOWN by `abort`
 */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { BOUND } from '../../proto/bound-child.js';
import { ServingError } from '../../proto/errors.js';
import { MemoryKills } from '../machine/memory-kills.js';
import { bareEnvironment } from '../model-store/bare-environment.js';
import { spawnedChild } from '../model-store/spawned-child.js';
import { PrintedLines } from './printed-lines.js';

/** A process that was asked to end gets so long. */
const STOP_GRACE_MS = 2000;
/** How often it is looked at, at most: what it holds is told where the kernel ends it. */
const LOOK_MS = 1000;
/** What a process said last is there when it ends, unless another one holds its channel. */
const READ_OUT_MS = 1000;
/** What it works at, and what lies ready for it. */
const MOST_QUESTIONS = 2;

export interface ChildProgram {
  /** Path of the compiled program. */
  program: string;
  /** For messages: "process of the ONNX model". */
  what: string;
  execArgv?: readonly string[];
  /** What to change where it had too little memory, for messages. */
  remedy: string;
  /** Gets each line that it prints; absent: nobody does. */
  onLine?: (line: string) => void;
}

/** Gets each message first, whether there is a question or not. true: it was no answer, but a sign of life. */
type OnMessage<From> = (message: From) => boolean;

export interface Asking<From> {
  /** It has so long from its beginning. */
  limitMs: number;
  /** Completes "The process … in N ms". */
  missed: string;
  /** true: it was no answer. */
  onNotice?: (message: From) => boolean;
  /** Nothing is before it any more. */
  onBegun?: () => void;
}

interface Question<From> extends Asking<From> {
  resolve(message: From): void;
  reject(error: ServingError): void;
}

export class ChildLink<To extends object, From extends object> {
  /** Resolves with why. */
  readonly failed: Promise<ServingError>;
  readonly #child: ChildProcess;
  readonly #what: string;
  readonly #exited: Promise<void>;
  readonly #memoryKills: MemoryKills;
  #lookedMs = Number.NEGATIVE_INFINITY;
  /** Default: all messages are answers or notices. */
  onMessage: OnMessage<From> = () => false;
  /** The first one has begun. */
  readonly #questions: Question<From>[] = [];
  /** The first one's deadline. */
  #timer: NodeJS.Timeout | null = null;
  #error: ServingError | null = null;
  #isStopping = false;

  /** @throws ServingError WORKER_FAILED: the system refuses a process */
  static async start<To extends object, From extends object>(
    kind: ChildProgram,
  ): Promise<ChildLink<To, From>> {
    const { execArgv = [], onLine, program, what } = kind;
    const output = onLine === undefined ? ('ignore' as const) : ('pipe' as const);
    const child = fork(program, [], {
      env: bareEnvironment(),
      execArgv: [...BOUND, ...execArgv],
      serialization: 'advanced',
      stdio: ['ignore', output, output, 'ipc'],
    });
    // Without a free descriptor it has neither a channel nor `send`.
    return new ChildLink<To, From>(await spawnedChild(child, `The ${what}`), kind);
  }

  private constructor(child: ChildProcess, { onLine, remedy, what }: ChildProgram) {
    this.#what = what;
    this.#memoryKills = new MemoryKills(undefined, remedy);
    this.#child = child;
    if (onLine !== undefined) {
      for (const stream of [this.#child.stdout, this.#child.stderr])
        if (stream) new PrintedLines(stream, onLine);
    }
    let tellFailed = (_error: ServingError): void => {};
    this.failed = new Promise((resolve) => {
      tellFailed = resolve;
    });
    this.#exited = new Promise((resolve) => {
      const gone = (how: string): void => {
        const error = this.#error ?? new ServingError('WORKER_FAILED', `The ${what} ${how}`);
        this.#error = error;
        this.#clearTimer();
        for (const question of this.#questions.splice(0)) question.reject(error);
        if (!this.#isStopping) tellFailed(error);
        resolve();
      };
      this.#child.once('exit', (code, signal) => {
        const { pid } = this.#child;
        const killer = signal === 'SIGKILL' && pid !== undefined ? this.#memoryKills.killerOf(pid) : null;
        const how =
          killer?.by === 'kernel'
            ? `was ended by SIGKILL, ${killer.sentence}`
            : `ended by ${signal ?? `code ${code}`}`;
        // What it has answered did not end it.
        if (!this.#child.connected) gone(how);
        else {
          const timer = setTimeout(() => gone(how), READ_OUT_MS);
          this.#child.once('disconnect', () => {
            clearTimeout(timer);
            gone(how);
          });
        }
      });
      this.#child.once('error', (error) => gone(`failed: ${error.message}`));
    });
    this.#child.on('message', (message: From) => {
      try {
        this.#heard(message);
      } catch (error) {
        // A program that is a model's own may send anything.
        const words = `The ${what} sent what it must not: ${(error as Error).message}`;
        this.kill(new ServingError('WORKER_FAILED', words));
      }
    });
  }

  #heard(message: From): void {
    if (typeof message !== 'object' || message === null) throw new TypeError('no message');
    // It is being killed for what it works at: the next question has not begun.
    if (this.#error !== null) return;
    const [first] = this.#questions;
    if (this.onMessage(message) || first?.onNotice?.(message)) {
      this.refresh();
      return;
    }
    if (first === undefined) return;
    this.#questions.shift();
    this.#clearTimer();
    first.resolve(message);
    this.#begin();
  }

  /** What is the first question now, if there is one. */
  #begin(): void {
    const [first] = this.#questions;
    if (first === undefined) return;
    const { limitMs, missed, onBegun } = first;
    this.#timer = setTimeout(() => {
      this.kill(new ServingError('STEP_TIMEOUT', `The ${this.#what} ${missed} in ${limitMs} ms`));
    }, limitMs);
    onBegun?.();
  }

  #clearTimer(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  /** Resolves when the process is gone, however. */
  get ended(): Promise<void> {
    return this.#exited;
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Answers come in the order of the questions. @throws ServingError: the process is gone */
  async ask(message: To, asking: Asking<From>): Promise<From> {
    assert(this.#questions.length < MOST_QUESTIONS, `${MOST_QUESTIONS} questions at a time`);
    if (this.#error) throw this.#error;
    this.#look();
    return new Promise<From>((resolve, reject) => {
      this.#questions.push({ ...asking, resolve, reject });
      this.tell(message);
      if (this.#questions.length === 1) this.#begin();
    });
  }

  #look(): void {
    const nowMs = performance.now();
    const { pid } = this.#child;
    if (pid === undefined || nowMs - this.#lookedMs < LOOK_MS) return;
    this.#lookedMs = nowMs;
    this.#memoryKills.look(pid);
  }

  /** What needs no answer. A channel that is broken is told by the exit. */
  tell(message: To): void {
    this.#child.send(message, () => {});
  }

  /** What it waits for goes on: its deadline begins anew. */
  refresh(): void {
    this.#timer?.refresh();
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

/** The child that `begin` makes of a new process; the process is killed when `signal` is aborted, and none is left when it throws. */
export async function startedChild<To extends object, From extends object, T>(
  program: ChildProgram,
  signal: AbortSignal,
  begin: (link: ChildLink<To, From>) => Promise<T>,
): Promise<T> {
  const link = await ChildLink.start<To, From>(program);
  const onAbort = (): void => link.kill(new ServingError('SHUTTING_DOWN', 'The model is being stopped'));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    signal.throwIfAborted();
    return await begin(link);
  } catch (error) {
    await link.stop();
    throw error;
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
