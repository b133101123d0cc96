/**
 * The inner end of limited-process.ts: runs what a parent asks, one task after the other, each within its time.
 *
 * In      messages { task, limitMs }
 * Out     a message for each: { value } or { code, message }
 * Limits  limitMs a task, by V8's own watchdog: also a loop or a regular expression that never comes back ends, and the process lives on;
 *         memory by the heap's limit, which ends the process
 * Errors  `late` makes that of a task that ran out of its time; others pass on by their code
 *
 * The process ends when its parent does: the channel closes, and no task lasts.
 */
import { Script } from 'node:vm';
import { ServingError } from '../../../proto/errors.js';

export interface LimitedTask<T> {
  task: T;
  limitMs: number;
}

export type LimitedReply = { value: unknown } | { code: string; message: string };

/** @param run answers a task, whole: what it starts and does not wait for is not guarded */
export function serveLimitedTasks<T>(
  run: (task: T) => unknown,
  late: (task: T, limitMs: number) => ServingError,
): void {
  let current: { task: T } | null = null;
  /** The watchdog guards what a script calls, so that the work is called by one. */
  const guarded = new Script('runLimitedTask()');
  Object.assign(globalThis, { runLimitedTask: () => (current === null ? null : run(current.task)) });
  const answer = ({ limitMs, task }: LimitedTask<T>): LimitedReply => {
    current = { task };
    try {
      return { value: guarded.runInThisContext({ timeout: limitMs }) as unknown };
    } catch (error) {
      const isLate =
        error instanceof Error && 'code' in error && error.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT';
      const { code, message } = isLate ? late(task, limitMs) : ServingError.from(error);
      return { code, message };
    } finally {
      current = null;
    }
  };
  // Signals of the terminal and of a service manager reach every process of the server, which may still be draining.
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => {});
  process.on('disconnect', () => process.exit());
  process.on('message', (next: LimitedTask<T>) => process.send?.(answer(next)));
}
