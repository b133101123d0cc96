/**
 * A process that ends with the one that started it.
 *
 * Limits  Linux. It holds for the thread that started this process, which is Node's main one
 * Errors  an Error with errno: this does not fail in a healthy process
 * Source  prctl(2), PR_SET_PDEATHSIG
 */
import koffi from 'koffi';

const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;

/** The kernel kills this process when the thread that started it ends; `false` when the parent is gone already. */
export function dieWithParent(expectedParentPid: number): boolean {
  const prctl = koffi.load('libc.so.6').func('prctl', 'int', ['int', 'ulong', 'ulong', 'ulong', 'ulong']);
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) !== 0) {
    throw new Error(`prctl(PR_SET_PDEATHSIG) failed, errno ${koffi.errno()}`);
  }
  return process.ppid === expectedParentPid;
}
