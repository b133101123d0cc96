/**
 * A file as memory that is only read: its pages are those of the page cache, and cost this process nothing of its own.
 *
 * In      path; the file must stay as long as it is
 * Out     the address of its first byte, and its size; the mapping lives as long as the process
 * Errors  an Error with the call's name and errno; what open throws
 * Source  mmap(2)
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import koffi from 'koffi';

const library = koffi.load('libc.so.6');
const mmap = library.func('mmap', 'intptr_t', ['uintptr_t', 'size_t', 'int', 'int', 'int', 'long']);

const PROT_READ = 1;
const MAP_PRIVATE = 2;

export interface MappedFile {
  readonly address: number;
  readonly bytes: number;
}

export function mapFile(path: string): MappedFile {
  const fd = openSync(path, 'r');
  try {
    const { size: bytes } = fstatSync(fd);
    const address = Number(mmap(0, bytes, PROT_READ, MAP_PRIVATE, fd, 0));
    if (address === -1) throw new Error(`mmap of ${bytes} bytes of ${path} failed, errno ${koffi.errno()}`);
    return { address, bytes };
  } finally {
    closeSync(fd);
  }
}
