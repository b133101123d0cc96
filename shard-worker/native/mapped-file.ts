/**
 * A part of a file as memory that is only read: its pages are those of the page cache, and cost this process nothing of its own.
 *
 * In      path, range; the file must stay as long as it is
 * Out     the address of the first byte; the mapping lives as long as the process
 * Errors  an Error with the call's name and errno; what open throws
 * Source  mmap(2)
 */
import assert from 'node:assert/strict';
import { closeSync, fstatSync, openSync } from 'node:fs';
import koffi from 'koffi';
import { PAGE_BYTES } from './libc.js';

const library = koffi.load('libc.so.6');
const mmap = library.func('mmap', 'intptr_t', ['uintptr_t', 'size_t', 'int', 'int', 'int', 'long']);

const PROT_READ = 1;
const MAP_PRIVATE = 2;

export function mapFile(path: string, offset: number, bytes: number): number {
  const fd = openSync(path, 'r');
  try {
    const { size } = fstatSync(fd);
    assert(offset + bytes <= size, `${path} has ${size} bytes, not ${offset + bytes}`);
    const before = offset % PAGE_BYTES;
    const address = Number(mmap(0, bytes + before, PROT_READ, MAP_PRIVATE, fd, offset - before));
    if (address === -1) throw new Error(`mmap of ${bytes} bytes of ${path} failed, errno ${koffi.errno()}`);
    return address + before;
  } finally {
    closeSync(fd);
  }
}
