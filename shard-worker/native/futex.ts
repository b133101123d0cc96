/**
 * Sleeping on a word of shared memory: `Atomics.wait` takes no memory from outside the JavaScript heap, the kernel does.
 *
 * The word may lie in memory that several processes share (no FUTEX_PRIVATE_FLAG). A wait blocks this thread, event loop
 * and all, so every wait has a timeout.
 *
 * Errors  an Error with errno: neither call fails in a healthy process
 * Source  futex(2); numbers of the system call: asm/unistd_64.h (x64), asm-generic/unistd.h (arm64)
 */
import os from 'node:os';
import koffi from 'koffi';

const SYS_FUTEX = process.arch === 'arm64' ? 98 : 202;
const FUTEX_WAIT = 0;
const FUTEX_WAKE = 1;
const EVERYONE = 0x7fff_ffff;

const library = koffi.load('libc.so.6');
const syscall = library.func('syscall', 'long', ['long', 'uintptr_t', 'int', 'int', 'uintptr_t']);

/** struct timespec. Each thread has its own: the kernel reads it while the wait begins. */
const timespec = new BigInt64Array(new ArrayBuffer(16));
const timespecAddress = Number(koffi.address(timespec));

/**
 * Sleep until somebody wakes the word, if it still holds `expected`. May return early, as after a signal: look at the
 * condition again.
 *
 * @returns false when the time ran out
 */
export function futexWait(address: number, expected: number, timeoutMs: number): boolean {
  timespec[0] = BigInt(Math.floor(timeoutMs / 1000));
  timespec[1] = BigInt(Math.floor((timeoutMs % 1000) * 1e6));
  if (syscall(SYS_FUTEX, address, FUTEX_WAIT, expected, timespecAddress) === 0) return true;
  const { EAGAIN, EINTR, ETIMEDOUT } = os.constants.errno;
  const errno = koffi.errno();
  if (errno === EAGAIN || errno === EINTR) return true;
  if (errno === ETIMEDOUT) return false;
  throw new Error(`futex wait failed, errno ${errno}`);
}

/** Wake everyone who sleeps on the word. Returns how many. */
export function futexWake(address: number): number {
  const woken = Number(syscall(SYS_FUTEX, address, FUTEX_WAKE, EVERYONE, 0));
  if (woken < 0) throw new Error(`futex wake failed, errno ${koffi.errno()}`);
  return woken;
}
