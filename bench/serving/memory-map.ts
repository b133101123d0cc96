/**
 * What a process's memory is: its proportional set size by kind of mapping.
 *
 * In      /proc/PID/smaps
 * Out     bytes by kind, largest first: weights, files (code and its constants) by name, C heap, anonymous memory (V8's heap, keys and
 *         values, activations), memory shared between ranks
 * Source  proc_pid_smaps(5)
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';

const HEAD = /^[0-9a-f]+-[0-9a-f]+ (\S{4}) \S+ \S+ \S+ *(.*)$/;

export function memoryByKind(smaps: string): [kind: string, bytes: number][] {
  const bytes = new Map<string, number>();
  let kind = '';
  for (const line of smaps.split('\n')) {
    const [, rights, file] = HEAD.exec(line) ?? [];
    if (rights !== undefined && file !== undefined) kind = kindOf(rights, file);
    const [, kilobytes] = /^Pss: +(\d+) kB$/.exec(line) ?? [];
    if (kilobytes !== undefined) bytes.set(kind, (bytes.get(kind) ?? 0) + Number(kilobytes) * 1024);
  }
  return [...bytes].sort((a, b) => b[1] - a[1]);
}

function kindOf(rights: string, file: string): string {
  if (file === '[heap]') return 'C heap';
  if (file === '' || file.startsWith('[')) return 'anonymous';
  if (file.startsWith('/dev/shm/') || file.startsWith('/memfd:')) return 'shared between ranks';
  const name = path.basename(file);
  if (name.endsWith('.weights')) return name;
  return `${name} ${rights.includes('w') ? 'data' : rights.includes('x') ? 'code' : 'constants'}`;
}

/** A line a process: its role, its sum, and the kinds above a megabyte. */
export function memoryLine(pid: number): string {
  const kinds = memoryByKind(readFileSync(`/proc/${pid}/smaps`, 'utf8'));
  const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);
  const sum = kinds.reduce((total, [, bytes]) => total + bytes, 0);
  const large = kinds.filter(([, bytes]) => bytes >= 1e6);
  const listed = large.map(([kind, bytes]) => `${kind} ${megabytes(bytes)}`).join(', ');
  return `  ${roleOf(pid).padEnd(24)} ${megabytes(sum).padStart(6)} MB: ${listed}`;
}

/** The program that it runs. */
function roleOf(pid: number): string {
  const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  const program =
    words.filter((word) => word.endsWith('.js') && !word.startsWith('file:')).at(0) ?? words[0] ?? '';
  return path.join(path.basename(path.dirname(program)), path.basename(program, '.js'));
}
