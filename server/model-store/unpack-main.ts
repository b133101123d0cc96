/**
 * The archive process: unpacks or verifies files that the server does not trust, where a hang or a crash harms nobody.
 *
 * In      one StoreTask as JSON in the first argument; ends when standard input does (the server has died)
 * Out     StoreEvents as JSON lines on standard output; exit code 0 after `done`, 1 after `error`
 * Limits  those of the task; the server kills a process that makes no progress
 * Errors  as `error` events
 */
import { ServingError } from '../../proto/errors.js';
import type { StoreEvent, StoreTask } from './store-task.js';
import { unpackArchive } from './unpack-archive.js';
import { verifyFiles } from './verify-files.js';

/** Progress is for people, and for the server to see that there is some. */
const PROGRESS_INTERVAL_MS = 100;

let lastProgressMs = 0;

function send(event: StoreEvent): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

function onProgress(doneBytes: number, totalBytes: number): void {
  const nowMs = performance.now();
  if (nowMs - lastProgressMs < PROGRESS_INTERVAL_MS && doneBytes < totalBytes) return;
  lastProgressMs = nowMs;
  send({ event: 'progress', doneBytes, totalBytes });
}

async function run(task: StoreTask): Promise<void> {
  if (task.task === 'unpack') await unpackArchive(task, onProgress);
  else await verifyFiles(task.folder, task.files, onProgress);
}

function errorEvent(error: unknown): StoreEvent {
  if (error instanceof ServingError) return { event: 'error', code: error.code, message: error.message };
  const { code, message } = error as NodeJS.ErrnoException;
  const isFull = code === 'ENOSPC' || code === 'EDQUOT';
  const isBroken = code === 'EIO' || code === 'EROFS';
  if (isBroken) return { event: 'error', code: 'WORKER_FAILED', message: `The disk has failed: ${message}` };
  return { event: 'error', code: isFull ? 'OUT_OF_MEMORY' : 'INTERNAL', message: `${message}` };
}

// Not exit(): it would wait for a read that hangs.
process.stdin.once('close', () => process.kill(process.pid, 'SIGKILL')).resume();
try {
  await run(JSON.parse(process.argv[2] ?? '') as StoreTask);
  send({ event: 'done' });
} catch (error) {
  send(errorEvent(error));
  process.exitCode = 1;
}
process.stdin.removeAllListeners('close').destroy();
