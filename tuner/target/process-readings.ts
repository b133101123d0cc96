/**
 * What a server's processes take: memory that is theirs, processor time.
 *
 * In      the pid of the server
 * Out     PSS of it and all below it, seconds of processor time; of a GPU the memory of these processes, where nvidia-smi is
 * Limits  a process that is gone counts nothing; children that ended count no processor time
 * Source  proc(5): smaps_rollup, in which a page that several share is divided among them
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { processSeconds } from './cpu-use.js';
import { childPids } from './server-under-test.js';

const KIB = 1024;
const MAX_DEPTH = 6;

export function processTree(pid: number, depth = 0): number[] {
  if (depth > MAX_DEPTH) return [];
  return [pid, ...childPids(pid).flatMap((child) => processTree(child, depth + 1))];
}

export function pssBytes(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    try {
      const found = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1];
      return sum + Number(found ?? 0) * KIB;
    } catch {
      return sum;
    }
  }, 0);
}

export const cpuSeconds = (pids: readonly number[]): number =>
  pids.reduce((sum, pid) => sum + processSeconds(pid), 0);

let hasGpu: boolean | null = null;

/** null: there is no GPU here. */
export function gpuBytes(pids: readonly number[]): number | null {
  if (hasGpu === false) return null;
  try {
    const text = execFileSync(
      'nvidia-smi',
      ['--query-compute-apps=pid,used_memory', '--format=csv,noheader,nounits'],
      { encoding: 'utf8', timeout: 5000, stdio: ['ignore', 'pipe', 'ignore'] },
    );
    hasGpu = true;
    return text
      .split('\n')
      .map((line) => line.split(',').map(Number))
      .filter(([pid]) => pids.includes(pid!))
      .reduce((sum, [, mib = 0]) => sum + mib * KIB * KIB, 0);
  } catch {
    hasGpu = false;
    return null;
  }
}

export function gpuNames(): string[] {
  try {
    const text = execFileSync('nvidia-smi', ['--query-gpu=name,driver_version', '--format=csv,noheader'], {
      encoding: 'utf8',
      timeout: 5000,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    return text.trim().split('\n').filter(Boolean);
  } catch {
    return [];
  }
}
