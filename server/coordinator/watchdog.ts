/**
 * Tells a rank that hangs from a server that did not run: both make answers late.
 *
 * In      when steps run; the group's processes; how to ask all ranks for a sign of life
 * Out     `onHung`, once, with an error that names the rank; `isSuspicious`, as soon as something looks wrong
 * Limits  stepTimeoutMs for a step of up to STEP_TOKENS tokens, as much longer as it has more, DEAF_MS for an answer of an idle rank, STOPPED_MS for a process that the kernel has stopped
 *         (SIGSTOP, ptrace). All of them count time in which this process ran: one that was frozen for an hour wakes to an
 *         hour-old timer and to answers that nobody has read, and must not kill a healthy group
 * Errors  STEP_TIMEOUT, WORKER_FAILED by onHung
 * Source  proc(5), the state in /proc/PID/stat
 */
import type { Logger } from 'pino';
import { ServingError } from '../../proto/errors.js';
import { processStat } from '../machine/process-stat.js';

const TICK_MS = 1000;
/** A longer step, such as a whole text to embed, has a later deadline. */
const STEP_TOKENS = 512;
/** A tick that comes so many ticks late was not the timer's fault. */
const STARVED_TICKS = 3;
/** Ranks are asked so often, in ticks; busy ones for what they say of themselves. */
const ASK_EVERY_TICKS = { idle: 2, busy: 5 } as const;
/** A step looks as if it hung when it has taken so many times as long as any before it, and no less than this. */
const SUSPICIOUS_TIMES = 5;
const SUSPICIOUS_MS = 5000;
const DEAF_MS = 10_000;
const STOPPED_MS = 5000;

export interface WatchedGroup {
  /** By rank. */
  readonly pids: readonly (number | undefined)[];
  /** Resolves when every rank has answered; rejects when the group has failed. */
  ask(): Promise<unknown>;
  /** Ranks that owe an answer to what was asked. */
  deafRanks(): readonly number[];
}

export interface WatchdogOptions {
  group: WatchedGroup;
  stepTimeoutMs: number;
  logger: Logger;
  onHung: (error: ServingError) => void;
  deafMs?: number;
  stoppedMs?: number;
  /** A process's, as proc(5) has it; null: it is gone. */
  stateOf?: (pid: number) => string | null;
  nowMs?: () => number;
}

export class Watchdog {
  readonly #options: WatchdogOptions;
  readonly #tickMs: number;
  readonly #nowMs: () => number;
  readonly #timer: NodeJS.Timeout;
  #lastTickMs: number;
  /** Time in which this process ran, as far as ticks tell. */
  #awakeMs = 0;
  #step: { number: number; sinceMs: number; limitMs: number; suspiciousMs: number } | null = null;
  #slowestStepMs = 0;
  /** Since when ranks owe an answer. */
  #askedMs: number | null = null;
  #ticksSinceAsked = 0;
  /** By rank, since when the kernel has it stopped. */
  readonly #stoppedMs = new Map<number, number>();

  constructor(options: WatchdogOptions) {
    this.#options = options;
    this.#nowMs = options.nowMs ?? (() => performance.now());
    const shortest = Math.min(
      options.stepTimeoutMs,
      options.deafMs ?? DEAF_MS,
      options.stoppedMs ?? STOPPED_MS,
    );
    this.#tickMs = Math.max(10, Math.min(TICK_MS, shortest / 4));
    this.#lastTickMs = this.#nowMs();
    this.#timer = setInterval(() => this.#tick(), this.#tickMs);
  }

  /** Something looks wrong with a rank, though not for long enough. */
  get isSuspicious(): boolean {
    const { deafMs = DEAF_MS } = this.#options;
    const isDeaf = this.#askedMs !== null && this.#awakeMs - this.#askedMs >= deafMs / 3;
    const isStuck = this.#step !== null && this.#awakeMs - this.#step.sinceMs >= this.#step.suspiciousMs;
    return this.#stoppedMs.size > 0 || isDeaf || isStuck;
  }

  /** @param tokens that it runs */
  stepStarted(number: number, tokens: number): void {
    const length = Math.max(1, tokens / STEP_TOKENS);
    const limitMs = this.#options.stepTimeoutMs * length;
    const suspiciousMs = Math.max(SUSPICIOUS_MS, SUSPICIOUS_TIMES * this.#slowestStepMs) * length;
    this.#endStep();
    this.#step = { number, sinceMs: this.#awakeMs, limitMs, suspiciousMs };
  }

  stepEnded(): void {
    this.#endStep();
  }

  #endStep(): void {
    if (this.#step) this.#slowestStepMs = Math.max(this.#slowestStepMs, this.#awakeMs - this.#step.sinceMs);
    this.#step = null;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const nowMs = this.#nowMs();
    const passedMs = nowMs - this.#lastTickMs;
    this.#lastTickMs = nowMs;
    const isStarved = passedMs > STARVED_TICKS * this.#tickMs;
    // What came meanwhile is read before the next tick.
    this.#awakeMs += isStarved ? this.#tickMs : passedMs;
    if (isStarved && passedMs > TICK_MS * STARVED_TICKS)
      this.#options.logger.warn(
        { ms: Math.round(passedMs) },
        'the server did not run: frozen, or short of processor time',
      );
    if (this.#lookAtProcesses() || this.#lookAtStep() || this.#lookAtAnswers()) this.stop();
  }

  /** @returns whether one hangs */
  #lookAtProcesses(): boolean {
    const { group, onHung, stoppedMs = STOPPED_MS, stateOf = stateOfProcess } = this.#options;
    for (const [rank, pid] of group.pids.entries()) {
      if (pid === undefined || stateOf(pid)?.toUpperCase() !== 'T') {
        this.#stoppedMs.delete(rank);
        continue;
      }
      const since = this.#stoppedMs.get(rank) ?? this.#awakeMs;
      this.#stoppedMs.set(rank, since);
      if (this.#awakeMs - since < stoppedMs) continue;
      const message = `rank ${rank} hangs: its process ${pid} is stopped (SIGSTOP or ptrace) for ${stoppedMs / 1000} s`;
      onHung(new ServingError('WORKER_FAILED', message));
      return true;
    }
    return false;
  }

  #lookAtStep(): boolean {
    if (this.#step === null || this.#awakeMs - this.#step.sinceMs < this.#step.limitMs) return false;
    const message = `step ${this.#step.number} took longer than ${this.#step.limitMs / 1000} s`;
    this.#options.onHung(new ServingError('STEP_TIMEOUT', message));
    return true;
  }

  /** A rank in a step answers after it, and the step has a deadline of its own: only an idle one can be deaf. */
  #lookAtAnswers(): boolean {
    const { deafMs = DEAF_MS, group, onHung } = this.#options;
    if (this.#askedMs === null) {
      const due = this.#step === null ? ASK_EVERY_TICKS.idle : ASK_EVERY_TICKS.busy;
      if (++this.#ticksSinceAsked < due) return false;
      this.#ticksSinceAsked = 0;
      this.#askedMs = this.#awakeMs;
      const answered = (): void => {
        this.#askedMs = null;
      };
      group.ask().then(answered, answered);
      return false;
    }
    // What was sent after the question may run long.
    if (this.#step !== null) this.#askedMs = this.#awakeMs;
    if (this.#awakeMs - this.#askedMs < deafMs) return false;
    const ranks = group.deafRanks().join(', ');
    onHung(
      new ServingError('WORKER_FAILED', `rank ${ranks} hangs: idle, and no answer for ${deafMs / 1000} s`),
    );
    return true;
  }
}

const stateOfProcess = (pid: number): string | null => processStat(pid)?.[0] ?? null;
