/**
 * Compares downloaded files with their sums, in the archive process.
 *
 * In      a folder, the sums of its files
 * Out     nothing; progress on the way
 * Limits  one process for MAX_TASK_BYTES of file names
 * Errors  CHECKPOINT_INVALID a file differs; CANCELLED
 */
import type { FillContext } from './fetch-plan.js';
import { runStoreTask } from './run-store-task.js';
import { MAX_TASK_BYTES } from './store-task.js';
import type { FileDigest } from './verify-files.js';

/** @throws ServingError */
export async function verifyDigests(
  folder: string,
  files: readonly FileDigest[],
  { onProgress, signal }: Pick<FillContext, 'onProgress' | 'signal'>,
): Promise<void> {
  for (const batch of batches(files)) {
    await runStoreTask(
      { task: 'verify', folder, files: batch },
      {
        signal,
        onProgress: (doneBytes, totalBytes) => onProgress({ stage: 'verify', doneBytes, totalBytes }),
      },
    );
  }
}

function batches(files: readonly FileDigest[]): FileDigest[][] {
  const found: FileDigest[][] = [];
  let room = 0;
  for (const file of files) {
    const bytes = Buffer.byteLength(JSON.stringify(file));
    // The folder's path stands in every task too.
    if (room < bytes) {
      found.push([]);
      room = MAX_TASK_BYTES - 5000;
    }
    found.at(-1)!.push(file);
    room -= bytes + 1;
  }
  return found;
}
