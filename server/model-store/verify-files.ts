/**
 * Compares downloaded files with the sums that their source promised. Runs in the child process: hashing a model takes
 * seconds that the server's event loop does not have.
 *
 * In      files of a folder and their sums
 * Out     nothing
 * Errors  CHECKPOINT_INVALID with both sums
 * Source  git's blob id: sha1 over `blob <bytes>\0` and the content; LFS: sha256; S3: md5 of an object put in one piece
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { ServingError } from '../../proto/errors.js';

export interface FileDigest {
  /** Relative to the task's folder. */
  file: string;
  algorithm: 'sha256' | 'git-blob-sha1' | 'md5';
  /** Lower-case hex. */
  digest: string;
}

/** @throws ServingError CHECKPOINT_INVALID */
export async function verifyFiles(
  folder: string,
  files: readonly FileDigest[],
  onProgress: (doneBytes: number, totalBytes: number) => void,
): Promise<void> {
  const sizes = await Promise.all(files.map(async ({ file }) => (await stat(path.join(folder, file))).size));
  const totalBytes = sizes.reduce((sum, bytes) => sum + bytes, 0);
  let doneBytes = 0;
  for (const [index, { algorithm, digest, file }] of files.entries()) {
    const hash = createHash(algorithm === 'git-blob-sha1' ? 'sha1' : algorithm);
    if (algorithm === 'git-blob-sha1') hash.update(`blob ${sizes[index]}\0`);
    for await (const chunk of createReadStream(path.join(folder, file), { highWaterMark: 1 << 20 })) {
      hash.update(chunk as Buffer);
      doneBytes += (chunk as Buffer).length;
      onProgress(doneBytes, totalBytes);
    }
    const found = hash.digest('hex');
    if (found !== digest) {
      throw new ServingError(
        'CHECKPOINT_INVALID',
        `${file} arrived damaged: its ${algorithm} is ${found}, its source says ${digest}`,
      );
    }
  }
}
