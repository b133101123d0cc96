/**
 * The inner end of limited-process.ts: runs what a parent asks, one task after the other, each within its time.
 *
 * In      messages { task, limitMs }
 * Out     a message for each: { value } or { code, message }; before it { againMs } each time that it is begun anew
 * Limits  limitMs of processor time a task, by V8's own watchdog: also a loop or a regular expression that never comes back ends, and the
 *         process lives on. The watchdog's is the clock's time: a task that got less of the processor than its limit by then, on a machine
 *         that has other work, is begun anew with as much more as it lacked, up to MOST_SLACK times its limit; memory by the heap's limit,
 *         which ends the process
 * Errors  `late` makes that of a task that ran out of its time; STEP_TIMEOUT: the machine never gave it its time; others pass on by their code
 *
 * The process ends when its parent does: the channel closes, and no task lasts.
 */
import { Script } from 'node:vm';
import { ServingError } from '../../../proto/errors.js';
import { trimHeap } from '../../machine/own-memory.js';
import { busyMachine, MOST_SLACK } from './task-slack.js';

const LEAST_MORE = 2;
/** What it was given last is not what it will be given next. */
const MORE_THAN_LACKED = 1.25;
/** Share of its limit: the last slice that the scheduler gave to others is not held against it. */
const USED_UP = 0.75;

export interface LimitedTask<T> {
  task: T;
  limitMs: number;
}

export type LimitedReply = { value: unknown } | { code: string; message: string };
/** Before the reply: the task is begun anew, with so much time by the clock. */
export interface BegunAnew {
  againMs: number;
}

/** What this process has had. */
function processorMs(): number {
  const { system, user } = process.cpuUsage();
  return (system + user) / 1000;
}

/**
 * @param run answers a task, whole: what it starts and does not wait for is not guarded, and what it did of one that was late is done again
 * @param usedMs processor time of this process
 * @param onAnew it is begun anew
 */
export function limitedAnswers<T>(
  run: (task: T) => unknown,
  late: (task: T, limitMs: number) => ServingError,
  usedMs: () => number = processorMs,
  onAnew: (anew: BegunAnew) => void = () => {},
): (task: LimitedTask<T>) => LimitedReply {
  let current: { task: T } | null = null;
  /** The watchdog guards what a script calls, so that the work is called by one. */
  const guarded = new Script('runLimitedTask()');
  Object.assign(globalThis, { runLimitedTask: () => (current === null ? null : run(current.task)) });
  return ({ limitMs, task }) => {
    current = { task };
    try {
      for (let slack = 1; ; ) {
        const before = usedMs();
        try {
          return { value: guarded.runInThisContext({ timeout: Math.ceil(limitMs * slack) }) as unknown };
        } catch (error) {
          if (!isLate(error)) return errorOf(ServingError.from(error));
          const used = (usedMs() - before) / limitMs;
          if (used >= USED_UP) return errorOf(late(task, limitMs));
          if (slack >= MOST_SLACK) return errorOf(busyMachine(limitMs, limitMs * slack));
          const lacked = (MORE_THAN_LACKED * slack) / Math.max(used, 1 / MOST_SLACK);
          slack = Math.min(MOST_SLACK, Math.max(LEAST_MORE * slack, lacked));
          onAnew({ againMs: Math.ceil(limitMs * slack) });
        }
      }
    } finally {
      current = null;
    }
  };
}

const isLate = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT';

const errorOf = ({ code, message }: ServingError): LimitedReply => ({ code, message });

/** Answers what the parent sends. @param run as limitedAnswers has it */
export function serveLimitedTasks<T>(
  run: (task: T) => unknown,
  late: (task: T, limitMs: number) => ServingError,
): void {
  const answer = limitedAnswers(run, late, processorMs, (anew) => process.send?.(anew));
  // Signals of the terminal and of a service manager reach every process of the server, which may still be draining.
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => {});
  process.on('disconnect', () => process.exit());
  // The first task reads files, and its answer is large: what that took is not kept.
  process.once('message', () => setImmediate(trimHeap));
  process.on('message', (next: LimitedTask<T>) => process.send?.(answer(next)));
}
