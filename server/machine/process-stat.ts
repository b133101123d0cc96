/**
 * What the kernel tells of a process in one line.
 *
 * In      the id of a process
 * Out     fields of stat from the third on, the state, which is the first here; null: there is none, or nothing is told of it
 * Source  proc(5)
 */
import { readFileSync } from 'node:fs';

export function processStat(pid: number | undefined): string[] | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name in field 2 may hold anything.
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return null;
  }
}
