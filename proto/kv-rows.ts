/**
 * What a row of keys or values of one head takes: known to the ranks that keep it and to the server that counts memory.
 *
 * In      the type that they are held as, the head's columns
 * Out     bytes
 * Pure
 */
import type { WorkerLaunch } from './worker-launch.js';

/** int8: a byte a column, and the float that they are multiplied by. */
export function kvRowBytes(type: NonNullable<WorkerLaunch['kvType']>, headDim: number): number {
  switch (type) {
    case 'fp32':
      return headDim * 4;
    case 'fp16':
      return headDim * 2;
    case 'int8':
      return headDim + 4;
  }
}
