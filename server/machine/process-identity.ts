/**
 * Whose something on disk is: a process, told from every other that had or will have its id.
 *
 * Out     `MACHINE-PID-START`, which fits a file's name; whether such a process is gone for sure
 * Limits  of another machine, boot or process namespace nothing is known: not gone
 * Source  proc(5): field 22 of stat, in ticks since boot; /proc/sys/kernel/random/boot_id
 */
import { createHash } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';
import { processStat } from './process-stat.js';

export const IDENTITY_PATTERN = '([0-9a-f]{8})-(\\d+)-(\\d+)';

export function processIdentity(): string {
  return identityOf(process.pid);
}

export function identityOf(pid: number): string {
  return `${machineId()}-${pid}-${startTimeOf(pid)}`;
}

/** @param machine as the parts of IDENTITY_PATTERN have them */
export function isGone(machine: string, pid: string, startTime: string): boolean {
  return machine === machineId() && startTimeOf(Number(pid)) !== startTime;
}

/** Boot and process namespace: where a process id means the same. */
export function machineId(): string {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8');
  const namespace = readlinkSync('/proc/self/ns/pid');
  return createHash('sha256').update(`${hostname()} ${boot} ${namespace}`).digest('hex').slice(0, 8);
}

/** null: no such process. */
const startTimeOf = (pid: number): string | null => processStat(pid)?.[19] ?? null;
