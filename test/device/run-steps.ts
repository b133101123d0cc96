/**
 * Runs steps in a process of their own, so that one that crashes or hangs costs its own row alone: the next ones run in a new process.
 *
 * In      names; how a process is started that runs them from one on; when there is no time left
 * Out     a row a step, told as they come
 * Errors  of the first process, before its first row: it refuses, and says why
 */
import { type CheckedRow, NO_FIGURES } from './device-check.js';

export type ChildMessage = { row: CheckedRow } | { refused: string };

export interface StepChild {
  /** The next message; null: it has ended. */
  next(): Promise<ChildMessage | null>;
  kill(): void;
  /** How it ended. */
  ending(): string;
}

export interface RunOptions {
  names: readonly string[];
  start: (first: number) => StepChild;
  /** For one step. */
  stepMs: number;
  deadlineMs: number;
  nowMs?: () => number;
  onRow: (row: CheckedRow) => void;
}

/** @returns all rows, or why nothing can run */
export async function runSteps(options: RunOptions): Promise<CheckedRow[] | string> {
  const { deadlineMs, names, nowMs = Date.now, onRow, start, stepMs } = options;
  const rows: CheckedRow[] = [];
  const add = (row: CheckedRow): void => {
    rows.push(row);
    onRow(row);
  };
  const failed = (verdict: string): void => add({ ...NO_FIGURES, name: names[rows.length] ?? '', verdict });
  while (rows.length < names.length) {
    if (nowMs() >= deadlineMs) {
      failed('not run: no time left');
      continue;
    }
    const child = start(rows.length);
    try {
      while (rows.length < names.length) {
        const limitMs = Math.min(stepMs, deadlineMs - nowMs());
        const message = await within(child.next(), limitMs);
        if (message === 'late') {
          failed(`not done within ${Math.round(limitMs / 1000)} s`);
          break;
        }
        if (message === null) {
          failed(`its process ${child.ending()}`);
          break;
        }
        if ('refused' in message) {
          if (rows.length === 0) return message.refused;
          failed(message.refused);
          break;
        }
        add(message.row);
      }
    } finally {
      child.kill();
    }
  }
  return rows;
}

async function within<T>(promise: Promise<T>, limitMs: number): Promise<T | 'late'> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(() => resolve('late'), Math.max(0, limitMs));
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
