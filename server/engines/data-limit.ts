/**
 * A limit on the memory of this process: what is beyond it is an allocation that fails, for buffers an exception.
 *
 * Limits  Linux: RLIMIT_DATA, private writable memory whatever allocates it (the heap of V8, buffers, native code); not shared or mapped files
 * Errors  Error: the system refuses
 * Source  getrlimit(2)
 */
import koffi from 'koffi';

const RLIMIT_DATA = 2;

export function limitData(bytes: number): void {
  const libc = koffi.load('libc.so.6');
  const limits = koffi.struct({ soft: 'uint64', hard: 'uint64' });
  const setrlimit = libc.func('setrlimit', 'int', ['int', koffi.pointer(limits)]) as (
    resource: number,
    value: { soft: number; hard: number },
  ) => number;
  if (setrlimit(RLIMIT_DATA, { soft: bytes, hard: bytes }) !== 0) throw new Error('setrlimit failed');
}
