/**
 * Which parts of which files this process maps, and letting go of their pages.
 *
 * A page of a file that was read once stays resident as long as the mapping does. Let go, it is read from the page cache
 * again when somebody touches it: nothing is lost where the mapping was never written to.
 *
 * In      /proc/self/maps
 * Errors  none: a line that can't be read is of no file
 * Source  proc_pid_maps(5)
 */
import { readFileSync } from 'node:fs';
import { discard } from './libc.js';

export interface FileMapping {
  readonly address: number;
  readonly bytes: number;
  readonly isExecutable: boolean;
  readonly isWritable: boolean;
  /** In the file, of the first byte mapped. */
  readonly offset: number;
  readonly path: string;
}

const LINE = /^([0-9a-f]+)-([0-9a-f]+) (r|-)(w|-)(x|-)p ([0-9a-f]+) \S+ \d+ +(\/.*)$/;

/** The private mappings of files, by address. */
export function fileMappings(maps: string = readFileSync('/proc/self/maps', 'utf8')): FileMapping[] {
  return maps.split('\n').flatMap((line) => {
    const [, start = '', end = '', , write, execute, offset = '', path = ''] = LINE.exec(line) ?? [];
    if (path === '') return [];
    const address = Number.parseInt(start, 16);
    return {
      address,
      bytes: Number.parseInt(end, 16) - address,
      isExecutable: execute === 'x',
      isWritable: write === 'w',
      offset: Number.parseInt(offset, 16),
      path,
    };
  });
}

/** The part of a mapping that shows the bytes `offset` … of its file, whole pages; null: it shows none of them. */
export function partOf(mapping: FileMapping, offset: number, bytes: number): FileMapping | null {
  const start = Math.max(mapping.offset, offset);
  const end = Math.min(mapping.offset + mapping.bytes, offset + bytes);
  if (end <= start) return null;
  return { ...mapping, address: mapping.address + start - mapping.offset, bytes: end - start, offset: start };
}

/** Only of mappings that this process has never written to. */
export function letGo(mappings: readonly FileMapping[]): void {
  for (const { address, bytes } of mappings) discard(address, bytes);
}
