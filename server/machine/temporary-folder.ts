/**
 * The folder for sockets and scratch files (TMPDIR, else /tmp): made where it is not there, as in a volume that begins empty, and found writable
 * before anything needs it.
 *
 * Errors  CONFIG_INVALID: it cannot be made or written
 */
import { accessSync, constants, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { ServingError } from '../../proto/errors.js';

/** @throws ServingError */
export function ensureTemporaryFolder(folder: string = tmpdir()): void {
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK | constants.X_OK);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new ServingError(
      'CONFIG_INVALID',
      `${folder}, where sockets and scratch files go, cannot be written (${code}): set TMPDIR to a folder that can`,
      { cause },
    );
  }
}
