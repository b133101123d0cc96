/**
 * Unpacks one archive into a new folder. Runs in the child process of unpack-main.ts only: its input is hostile.
 *
 * In      an archive file, a folder that does not exist yet, limits
 * Out     the folder with the archive's files; on an error no folder
 * Limits  those of EntryPolicy
 * Errors  CHECKPOINT_INVALID (no archive, damaged, refused entry), BAD_REQUEST (a limit)
 */
import { mkdir, open, rm } from 'node:fs/promises';
import { ServingError } from '../../proto/errors.js';
import { ARCHIVE_HEAD_BYTES, archiveKind } from './archive-kind.js';
import { EntryPolicy, type UnpackLimits } from './entry-policy.js';
import { EntryWriter } from './entry-writer.js';
import { readTar } from './read-tar.js';
import { readZip } from './read-zip.js';

export interface UnpackTask {
  archive: string;
  target: string;
  limits: UnpackLimits;
}

/** Errors of the file system that are the machine's fault, not the archive's. */
const MACHINE_ERRORS = [
  'ENOSPC',
  'EDQUOT',
  'EACCES',
  'EPERM',
  'EROFS',
  'EMFILE',
  'ENFILE',
  'EIO',
  'EEXIST',
  'ENOENT',
];

/**
 * @param onProgress bytes of the archive that are done, of its size
 * @throws ServingError; file system errors as they are
 */
export async function unpackArchive(
  task: UnpackTask,
  onProgress: (doneBytes: number, totalBytes: number) => void,
): Promise<{ entries: number; unpackedBytes: number }> {
  const { archive, limits, target } = task;
  const { head, size } = await readHead(archive);
  const kind = archiveKind(head);
  if (kind === null) {
    throw new ServingError('CHECKPOINT_INVALID', 'The file is no tar, tar.gz or zip archive');
  }
  const policy = new EntryPolicy(limits, size);
  await mkdir(target, { mode: 0o700 });
  const writer = new EntryWriter(target, policy);
  let done = 0;
  const onRead = (bytes: number): void => {
    done += bytes;
    onProgress(done, size);
  };
  try {
    if (kind === 'zip') await readZip(archive, limits, policy, writer, onRead);
    else await readTar(archive, kind === 'gzip', policy, writer, onRead);
  } catch (error) {
    await rm(target, { recursive: true, force: true });
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (error instanceof ServingError || MACHINE_ERRORS.includes(code)) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new ServingError('CHECKPOINT_INVALID', `The archive is damaged: ${reason}`, { cause: error });
  }
  return policy.totals;
}

async function readHead(archive: string): Promise<{ head: Buffer; size: number }> {
  const handle = await open(archive, 'r');
  try {
    const { size } = await handle.stat();
    const head = Buffer.alloc(ARCHIVE_HEAD_BYTES);
    const { bytesRead } = await handle.read(head, 0, ARCHIVE_HEAD_BYTES, 0);
    return { head: head.subarray(0, bytesRead), size };
  } finally {
    await handle.close();
  }
}
