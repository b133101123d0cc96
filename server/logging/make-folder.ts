/**
 * A folder for log files, there and to be written.
 *
 * Errors  CONFIG_INVALID naming the key that asked for it
 */
import { accessSync, constants, mkdirSync } from 'node:fs';
import { ServingError } from '../../proto/errors.js';

/** @throws ServingError CONFIG_INVALID */
export function makeFolder(folder: string, key: string): void {
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new ServingError('CONFIG_INVALID', `${key}: cannot write to ${folder}: ${reason}`, {
      cause: error,
    });
  }
}
