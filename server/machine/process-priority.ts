/**
 * How willingly the kernel runs a process: the nice value of its threads.
 *
 * In      a process id of this user's
 * Out     the nice value of every thread it has now; later threads inherit it
 * Limits  a lower value may be taken back only with CAP_SYS_NICE, or where RLIMIT_NICE allows it
 * Errors  none: a thread or process that has ended needs no priority
 * Source  sched(7), setpriority(2): the value is a thread's own on Linux; getrlimit(2): RLIMIT_NICE is 20 − nice
 */
import { readdirSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';
import { type ReadText, readOrNull } from './machine-limits.js';

/** The kernel runs such threads in the time that others leave: a weight of 15, where the usual one is 1,024. */
export const LOWEST_PRIORITY = 19;

const CAP_SYS_NICE = 23n;

/** Whether a priority that is lowered can be raised again, to this process' own. */
export function canRaisePriority(read: ReadText = readOrNull, own = getPriority()): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(read('/proc/self/status') ?? '')?.[1] ?? '0';
  if ((BigInt(`0x${effective}`) >> CAP_SYS_NICE) & 1n) return true;
  const limit = /^Max nice priority\s+(\d+|unlimited)/m.exec(read('/proc/self/limits') ?? '')?.[1] ?? '0';
  return limit === 'unlimited' || Number(limit) >= 20 - own;
}

export function setProcessPriority(pid: number, nice: number): void {
  let threads: string[];
  try {
    threads = readdirSync(`/proc/${pid}/task`);
  } catch {
    return;
  }
  for (const thread of threads) {
    try {
      setPriority(Number(thread), nice);
    } catch {
      // It has ended.
    }
  }
}
