/**
 * Memory that several processes of one host share: a file without a name, mapped by each of them.
 *
 * A memfd lies in no file system (not in /dev/shm, which is 64 MB in a container) and is gone with its last user, whatever
 * ended that one. Others reach it as /proc/<pid>/fd/<n> while the maker has it open; the same user is needed.
 *
 * Limits  the file is sparse: a page costs memory only once it was touched
 * Errors  an Error with the call's name and errno; ENOENT and EACCES of open
 * Source  memfd_create(2), mmap(2), proc_pid_fd(5)
 */
import { closeSync, ftruncateSync, openSync } from 'node:fs';
import koffi from 'koffi';

const library = koffi.load('libc.so.6');
const memfdCreate = library.func('memfd_create', 'int', ['str', 'uint']);
const mmap = library.func('mmap', 'intptr_t', ['uintptr_t', 'size_t', 'int', 'int', 'int', 'long']);
const munmap = library.func('munmap', 'int', ['uintptr_t', 'size_t']);

const MFD_CLOEXEC = 1;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;

export interface SharedMapping {
  /** A multiple of the page size. */
  readonly address: number;
  readonly bytes: number;
  readonly buffer: ArrayBuffer;
}

/** A new file of zeros. `label` shows up in /proc/<pid>/maps only. */
export function createSharedFile(label: string, bytes: number): number {
  const fd = Number(memfdCreate(label, MFD_CLOEXEC));
  if (fd < 0) throw new Error(`memfd_create failed, errno ${koffi.errno()}`);
  try {
    ftruncateSync(fd, bytes);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return fd;
}

/** The file that process `pid` of this host has open as `fd`. Returns this process's own descriptor. */
export function openSharedFile(pid: number, fd: number): number {
  return openSync(`/proc/${pid}/fd/${fd}`, 'r+');
}

/** Map a part of the file, which starts at a multiple of the page size. */
export function mapShared(fd: number, offset: number, bytes: number): SharedMapping {
  const address = Number(mmap(0, bytes, PROT_READ_WRITE, MAP_SHARED, fd, offset));
  if (address === -1) throw new Error(`mmap of ${bytes} shared bytes failed, errno ${koffi.errno()}`);
  return { address, bytes, buffer: koffi.view(BigInt(address), bytes) };
}

/** Any view of it is dead afterwards: touching one is a segmentation fault. */
export function unmapShared({ address, bytes }: SharedMapping): void {
  if (munmap(address, bytes) !== 0) throw new Error(`munmap failed, errno ${koffi.errno()}`);
}
