/**
 * The few calls of the C library that Node does not offer: anonymous mappings, giving pages and heap back.
 *
 * Addresses are JavaScript numbers: user space ends at 2^47 on the supported platforms, well inside the exact integers.
 *
 * Errors  an Error with the call's name and errno: none of these fails in a healthy process
 * Source  mmap(2), madvise(2), malloc_trim(3), prctl(2)
 */
import koffi from 'koffi';

const library = koffi.load('libc.so.6');
const mmap = library.func('mmap', 'intptr_t', ['uintptr_t', 'size_t', 'int', 'int', 'int', 'long']);
const munmap = library.func('munmap', 'int', ['uintptr_t', 'size_t']);
const madvise = library.func('madvise', 'int', ['uintptr_t', 'size_t', 'int']);
const mallocTrim = library.func('malloc_trim', 'int', ['size_t']);
const prctl = library.func('prctl', 'int', ['int', 'ulong', 'ulong', 'ulong', 'ulong']);

const PROT_READ_WRITE = 3;
const MAP_PRIVATE_ANONYMOUS_NORESERVE = 0x02 | 0x20 | 0x4000;
const MADV_DONTNEED = 4;
const MADV_REMOVE = 9;
const PR_SET_THP_DISABLE = 41;

/** Bytes of a page on x64; arm64 kernels may have larger ones, and a multiple of 64 KiB suits all. */
export const PAGE_BYTES = 64 * 1024;

/** Bytes of the pages that `bytes` from the start of one take. */
export const wholePages = (bytes: number): number => Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;

/** Reserve `bytes` of zeros: pages become real when touched. */
export function reserve(bytes: number): number {
  const address = Number(mmap(0, bytes, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_NORESERVE, -1, 0));
  if (address === -1) throw new Error(`mmap of ${bytes} bytes failed, errno ${koffi.errno()}`);
  return address;
}

export function unmap(address: number, bytes: number): void {
  if (munmap(address, bytes) !== 0) throw new Error(`munmap failed, errno ${koffi.errno()}`);
}

/** Give the pages back; they read as zeros afterwards, or as the file has them where they map one privately. */
export function discard(address: number, bytes: number): void {
  if (madvise(address, bytes, MADV_DONTNEED) !== 0) throw new Error(`madvise failed, errno ${koffi.errno()}`);
}

/** Likewise of a shared mapping of a memfd: the file has a hole there, and zeros for all who map it. */
export function discardShared(address: number, bytes: number): void {
  if (madvise(address, bytes, MADV_REMOVE) !== 0) throw new Error(`madvise failed, errno ${koffi.errno()}`);
}

/** Free pages of the C heap go back to the system. */
export function trimHeap(): void {
  mallocTrim(0);
}

/** Huge pages that there are stay; from now on a page that is touched is a small one. */
export function noMoreHugePages(): void {
  if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) !== 0) {
    throw new Error(`prctl(PR_SET_THP_DISABLE) failed, errno ${koffi.errno()}`);
  }
}
