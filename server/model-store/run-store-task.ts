/**
 * Runs one task in the archive process (unpack-main.ts) and waits for it: a hostile archive harms no process but that one.
 *
 * In      a task
 * Out     nothing; progress on the way
 * Limits  MAX_HEAP_MB of memory, MAX_OUTPUT_BYTES of output, `stallMs` without progress, then SIGKILL
 * Errors  the ServingError that the process reports; CHECKPOINT_INVALID when it hangs or dies; CANCELLED by the signal;
 *         WORKER_FAILED when it cannot be started
 *
 * The process gets no environment, so no token or key is in its reach. It ends with the server (proto/bound-child.ts).
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { BOUND } from '../../proto/bound-child.js';
import { isErrorCode, ServingError } from '../../proto/errors.js';
import { bareEnvironment } from './bare-environment.js';
import { spawnedChild } from './spawned-child.js';
import type { StoreEvent, StoreTask } from './store-task.js';

const PROGRAM = fileURLToPath(new URL('./unpack-main.js', import.meta.url));
const MAX_HEAP_MB = 256;
const MAX_OUTPUT_BYTES = 8 * 1024 * 1024;
const MAX_STDERR = 4000;
/** A slow disk flushes a large file in less. */
const STALL_MS = 120_000;

export interface StoreTaskOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  stallMs?: number;
}

/** @throws ServingError; the process has ended when it returns or throws */
export async function runStoreTask(task: StoreTask, options: StoreTaskOptions = {}): Promise<void> {
  const { onProgress, signal, stallMs = STALL_MS } = options;
  const spawning = spawn(
    process.execPath,
    [...BOUND, `--max-old-space-size=${MAX_HEAP_MB}`, PROGRAM, JSON.stringify(task)],
    { stdio: ['pipe', 'pipe', 'pipe'], env: bareEnvironment() },
  );
  const child = await spawnedChild(spawning, `The ${task.task} process`);
  let failure: ServingError | null = null;
  let isDone = false;
  let stderr = '';
  let outputBytes = 0;
  const kill = (reason: ServingError): void => {
    failure ??= reason;
    child.kill('SIGKILL');
  };
  const onStall = (): void =>
    kill(
      new ServingError(
        'CHECKPOINT_INVALID',
        `The ${task.task} process made no progress for ${stallMs} ms and was killed`,
      ),
    );
  let stallTimer = setTimeout(onStall, stallMs);
  const onAbort = (): void => kill(new ServingError('CANCELLED', 'Fetching the model was cancelled'));
  if (signal?.aborted) onAbort();
  signal?.addEventListener('abort', onAbort, { once: true });
  // Writing to a process that has ended is no news: its exit is.
  child.stdin.on('error', () => undefined);
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-MAX_STDERR);
  });
  child.stdout.on('data', (chunk: Buffer) => {
    outputBytes += chunk.length;
    if (outputBytes > MAX_OUTPUT_BYTES) {
      kill(
        new ServingError('INTERNAL', `The ${task.task} process wrote more than ${MAX_OUTPUT_BYTES} bytes`),
      );
    }
  });
  createInterface({ input: child.stdout }).on('line', (line) => {
    const event = parseEvent(line);
    if (event?.event === 'progress') {
      clearTimeout(stallTimer);
      stallTimer = setTimeout(onStall, stallMs);
      onProgress?.(event.doneBytes, event.totalBytes);
    } else if (event?.event === 'error') {
      failure ??= new ServingError(isErrorCode(event.code) ? event.code : 'INTERNAL', event.message);
    } else if (event?.event === 'done') {
      isDone = true;
    }
  });
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      // 'close' comes after the last line of output has been read.
      child.once('close', resolve);
    });
    if (failure !== null) throw failure;
    if (isDone && code === 0) return;
    const cause = stderr.trim() || 'it said nothing';
    throw new ServingError('CHECKPOINT_INVALID', `The ${task.task} process died (code ${code})`, { cause });
  } finally {
    clearTimeout(stallTimer);
    signal?.removeEventListener('abort', onAbort);
    child.stdin.destroy();
  }
}

/** null: a line that is no event. */
function parseEvent(line: string): StoreEvent | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null && 'event' in value ? (value as StoreEvent) : null;
  } catch {
    return null;
  }
}
