/**
 * What the server and its archive process (unpack-main.ts) say to each other.
 *
 * Down    one task as one JSON argument; the open standard input means that the server is still there
 * Up      one JSON object a line: progress, then done or error
 */
import type { UnpackTask } from './unpack-archive.js';
import type { FileDigest } from './verify-files.js';

export type StoreTask =
  | ({ task: 'unpack' } & UnpackTask)
  | { task: 'verify'; folder: string; files: FileDigest[] };

export type StoreEvent =
  | { event: 'progress'; doneBytes: number; totalBytes: number }
  | { event: 'done' }
  /** `code` is one of proto/errors.ts. */
  | { event: 'error'; code: string; message: string };

/** Linux takes 128 KiB in one argument. */
export const MAX_TASK_BYTES = 100_000;
