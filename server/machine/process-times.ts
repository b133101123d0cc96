/**
 * What a process has had of the processor, and whether it is stopped.
 *
 * In      the id of a process
 * Out     null: there is none, or nothing is told of it
 * Source  proc(5): fields 3, 14 and 15 of stat; a tick is 1/100 s on every Linux that this runs on (USER_HZ)
 */
import { processStat } from './process-stat.js';

const TICK_MS = 10;

export interface ProcessTimes {
  processorMs: number;
  /** By SIGSTOP or ptrace. */
  isStopped: boolean;
}

export function processTimes(pid: number | undefined): ProcessTimes | null {
  const fields = processStat(pid);
  if (fields === null) return null;
  const processorMs = (Number(fields[11]) + Number(fields[12])) * TICK_MS;
  return { processorMs, isStopped: fields[0]!.toUpperCase() === 'T' };
}
