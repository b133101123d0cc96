/**
 * A process for what a checkpoint makes its server do: its chat template is a program, its tokenizer has expressions that may never end.
 *
 * In      tasks, which wait in line: one runs at a time. The first prepares the process, and each one that follows it
 * Out     what the program (limited-task.ts) answers
 * Limits  memoryMb of heap, a deadline a task, of processor time (limited-task.ts). The line is as long as those who ask make it
 * Errors  the program's own; ProcessKind.limitCode: it ran past its deadline or its memory; tasks behind such a one run all the same, in
 *         a new process where the old one is gone; CANCELLED: who asked left (a task that runs on is ended with its process); STEP_TIMEOUT:
 *         the machine never gave it its time, or the process was stopped; WORKER_FAILED: the system refuses a process; SHUTTING_DOWN after
 *         close. A process that somebody else kills runs its task again in a new one, once
 *
 * Not a thread: a thread's memory limit does not hold (work-load-manager/README, 2026-11-26).
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { BOUND } from '../../../proto/bound-child.js';
import { type ErrorCode, isErrorCode, ServingError } from '../../../proto/errors.js';
import { clientLeft } from '../../jobs/job.js';
import { processTimes } from '../../machine/process-times.js';
import { bareEnvironment } from '../../model-store/bare-environment.js';
import { spawnedChild } from '../../model-store/spawned-child.js';
import type { BegunAnew, LimitedReply, LimitedTask } from './limited-task.js';
import { busyMachine, MOST_SLACK } from './task-slack.js';

export interface ProcessKind {
  /** Path of the program. */
  program: string;
  memoryMb: number;
  limitCode: ErrorCode;
  /** For messages: "model's chat template", "these messages". */
  what: string;
  over: string;
  /** To start the process and run the first task. */
  startMs: number;
}

/** What dies young is little; without this reading a vocabulary leaves a young heap of tens of MB. */
const SMALL_YOUNG_HEAP = ['--max-semi-space-size=1'];
/** A task whose client has left may end by itself for so long: a new process costs more. */
const LEFT_MS = 500;
/** Beyond its own limit: a process that does not answer by then (stopped, or in one long call of V8's) is killed, unless it is starved. */
const GRACE_MS = 5000;
/** One that had so many times its limit of the processor, as it may where the machine is free again, is ended before its own watchdog does. */
const MOST_TIMES = 4;
/** Signals that nobody but somebody else, or the kernel, sends it: V8 ends by others when its heap is full. */
const FOREIGN = ['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGHUP'];

/** The task may be run again. */
class KilledByOthers extends Error {
  readonly told: ServingError;

  constructor(told: ServingError) {
    super(told.message);
    this.told = told;
  }
}

export class LimitedProcess<First, Task> {
  readonly #kind: ProcessKind;
  readonly #first: LimitedTask<First>;
  #child: ChildProcess | null = null;
  /** What the first task gave, until it is fetched. */
  #prepared: unknown = null;
  #isStarted = false;
  #isBusy = false;
  #isClosed = false;
  /** Ends with the last task in line. */
  #line: Promise<unknown> = Promise.resolve();

  constructor(kind: ProcessKind, first: LimitedTask<First>) {
    this.#kind = kind;
    this.#first = first;
  }

  /**
   * The first task, in a process that starts with it.
   *
   * @throws ServingError
   */
  start<T>(): Promise<T> {
    return this.#inLine(async () => {
      await this.#ready();
      const prepared = this.#prepared as T;
      this.#prepared = null;
      return prepared;
    });
  }

  /** @throws ServingError */
  ask<T>(task: LimitedTask<Task>, signal?: AbortSignal): Promise<T> {
    return this.#inLine(async () => {
      if (signal?.aborted === true) throw clientLeft();
      return (await this.#send(await this.#ready(), task, task.limitMs, signal)) as T;
    });
  }

  /** Tasks that are in line are refused. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const child = this.#child;
    if (child === null) return;
    const exited = once(child, 'exit');
    child.ref();
    if (this.#isBusy || !child.connected) child.kill('SIGKILL');
    else child.disconnect();
    await exited;
  }

  #inLine<T>(act: () => Promise<T>): Promise<T> {
    const turn = this.#line.then(() => onceMore(act));
    this.#line = turn.catch(() => {});
    return turn;
  }

  async #ready(): Promise<ChildProcess> {
    if (this.#isClosed) throw new ServingError('SHUTTING_DOWN', 'The model is being stopped');
    if (this.#child !== null) return this.#child;
    const child = fork(this.#kind.program, [], {
      execArgv: [...BOUND, `--max-old-space-size=${this.#kind.memoryMb}`, ...SMALL_YOUNG_HEAP],
      env: bareEnvironment(),
      // What V8 says of a full heap is for nobody.
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    // Without a free descriptor it has neither a channel nor `send`.
    await spawnedChild(child, `The process of the ${this.#kind.what}`);
    if (this.#isClosed) {
      child.kill('SIGKILL');
      throw new ServingError('SHUTTING_DOWN', 'The model is being stopped');
    }
    // A process that waits for work does not keep the server alive.
    child.unref();
    child.channel?.unref();
    this.#child = child;
    const forget = (): void => {
      if (this.#child === child) this.#child = null;
    };
    child.once('exit', forget);
    child.once('error', forget);
    try {
      const prepared = await this.#send(child, this.#first, this.#kind.startMs);
      if (!this.#isStarted) this.#prepared = prepared;
      this.#isStarted = true;
    } catch (error) {
      // It would answer the next task without what the first one prepares.
      child.kill('SIGKILL');
      forget();
      throw error;
    }
    return child;
  }

  async #send(
    child: ChildProcess,
    task: LimitedTask<First | Task>,
    limitMs: number,
    client?: AbortSignal,
  ): Promise<unknown> {
    this.#isBusy = true;
    let late: ServingError | null = null;
    let leftTimer: NodeJS.Timeout | undefined;
    const onLeft = (): void => {
      leftTimer = setTimeout(() => child.kill('SIGKILL'), LEFT_MS);
    };
    client?.addEventListener('abort', onLeft, { once: true });
    const startMs = performance.now();
    /** When the time of its last beginning is over, by the clock: its own watchdog has to end it before. */
    let endMs = startMs + limitMs + GRACE_MS;
    let usedBeforeMs = processTimes(child.pid)?.processorMs ?? 0;
    const look = (): void => {
      const { isStopped = true, processorMs = 0 } = processTimes(child.pid) ?? {};
      const nowMs = performance.now();
      const usedMs = processorMs - usedBeforeMs;
      const isDue = nowMs >= endMs && usedMs >= limitMs;
      if (isStopped || isDue || usedMs >= MOST_TIMES * limitMs || nowMs - endMs >= MOST_SLACK * limitMs) {
        const waitedMs = Math.round(nowMs - startMs);
        late = usedMs >= limitMs ? this.#died(waitedMs, null) : busyMachine(limitMs, waitedMs);
        child.kill('SIGKILL');
      } else timer = setTimeout(look, limitMs);
    };
    let timer = setTimeout(look, limitMs + GRACE_MS);
    const begunAnew = ({ againMs }: BegunAnew): void => {
      clearTimeout(timer);
      usedBeforeMs = processTimes(child.pid)?.processorMs ?? usedBeforeMs;
      endMs = performance.now() + againMs + GRACE_MS;
      timer = setTimeout(look, limitMs);
    };
    const listening = new AbortController();
    const { signal } = listening;
    try {
      const reply = await new Promise<LimitedReply>((resolve, reject) => {
        // A channel that is broken already is told by the exit.
        child.send(task, () => {});
        const heard = (message: LimitedReply | BegunAnew): void => {
          if (!('againMs' in message)) resolve(message);
          else begunAnew(message);
        };
        child.on('message', heard);
        signal.addEventListener('abort', () => child.off('message', heard), { once: true });
        onceOf(child, 'error', signal, reject);
        onceOf(child, 'exit', signal, (_code: number | null, by: string | null) =>
          reject(client?.aborted === true ? clientLeft() : (late ?? this.#ended(by))),
        );
      });
      if ('value' in reply) return reply.value;
      throw new ServingError(isErrorCode(reply.code) ? reply.code : 'INTERNAL', reply.message);
    } finally {
      clearTimeout(timer);
      clearTimeout(leftTimer);
      client?.removeEventListener('abort', onLeft);
      listening.abort();
      this.#isBusy = false;
    }
  }

  #ended(signal: string | null): Error {
    const told = this.#died(null, signal);
    return !this.#isClosed && FOREIGN.includes(signal ?? '') ? new KilledByOthers(told) : told;
  }

  #died(afterMs: number | null, signal: string | null): ServingError {
    if (this.#isClosed) return new ServingError('SHUTTING_DOWN', 'The model is being stopped');
    const { limitCode, memoryMb, over, what } = this.#kind;
    const how =
      afterMs === null
        ? `ended (${signal ?? 'by itself'}) over ${over}: it may use ${memoryMb} MB of memory`
        : `did not answer after ${afterMs} ms`;
    return new ServingError(limitCode, `The process of the ${what} ${how}`);
  }
}

/** @throws ServingError */
async function onceMore<T>(act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof KilledByOthers)) throw error;
  }
  try {
    return await act();
  } catch (error) {
    throw error instanceof KilledByOthers ? error.told : error;
  }
}

/** Calls back for the event unless `signal` is aborted before. */
function onceOf(
  child: ChildProcess,
  event: 'error' | 'exit',
  signal: AbortSignal,
  act: (...args: never[]) => void,
): void {
  const listener = act as (...args: unknown[]) => void;
  child.once(event, listener);
  signal.addEventListener('abort', () => child.off(event, listener), { once: true });
}
