/**
 * Memory of the server's own process that only loading needed.
 *
 * Out     free pages of the C heap go back to the system, and V8's young heap, which shardserve.mjs keeps as small as it begins while
 *         programs and models load, grows from now on as requests ask for it
 * Errors  none: without glibc's malloc_trim the pages stay
 * Source  malloc_trim(3); V8's flag --semi-space-growth-factor, read whenever the young heap grows
 */
import { setFlagsFromString } from 'node:v8';
import koffi from 'koffi';

/** V8's own. */
const USUAL_GROWTH = 2;

/** Once: everything has loaded. */
export function giveBackAfterLoading(): void {
  setFlagsFromString(`--semi-space-growth-factor=${USUAL_GROWTH}`);
  trimHeap();
}

/** Free pages of the C heap go back. */
export function trimHeap(): void {
  try {
    koffi.load('libc.so.6').func('malloc_trim', 'int', ['size_t'])(0);
  } catch {
    // Another C library.
  }
}
