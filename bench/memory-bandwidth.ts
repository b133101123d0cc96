/**
 * How fast this machine reads memory now: the limit of a decode, which reads all weights once.
 *
 * In      threads that read at once, as many as the group has
 * Out     bytes a second, all threads together
 * Limits  each reads a buffer of its own, far larger than the last-level cache's share of a core; what is measured of a shared
 *         machine holds for that moment
 */
import { Worker } from 'node:worker_threads';

const BUFFER_BYTES = 256 * 2 ** 20;
const READ_MS = 200;

export async function readBandwidth(threads: number): Promise<number> {
  const program = new URL('./memory-reader.js', import.meta.url);
  const rates = await Promise.all(
    Array.from(
      { length: threads },
      () =>
        new Promise<number>((resolve, reject) => {
          const worker = new Worker(program, { workerData: { bytes: BUFFER_BYTES, ms: READ_MS } });
          worker.once('message', resolve);
          worker.once('error', reject);
        }),
    ),
  );
  return rates.reduce((sum, rate) => sum + rate, 0);
}
