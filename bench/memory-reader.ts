/**
 * A thread that reads memory as fast as it can: searches a buffer for a byte that is not in it, by the C library's memchr.
 *
 * Run     a worker thread of memory-bandwidth.ts
 * In      workerData: bytes of the buffer, milliseconds to read
 * Out     one message: bytes a second
 */
import { parentPort, workerData } from 'node:worker_threads';

const { bytes, ms } = workerData as { bytes: number; ms: number };
const buffer = Buffer.alloc(bytes, 1);
buffer.indexOf(0);
let read = 0;
const started = performance.now();
while (performance.now() - started < ms) {
  buffer.indexOf(0);
  read += bytes;
}
parentPort?.postMessage((read * 1000) / (performance.now() - started));
