/**
 * The folder of a group's ipc sockets: private (0700), with a path short enough for a Unix socket, gone with the group. One that a killed
 * server has left is removed with the next that is made (scratch-folder.ts).
 *
 * Limits  MAX_SOCKET_PATH bytes: sun_path holds 108 with its final zero (unix(7))
 */
import { tmpdir } from 'node:os';
import path from 'node:path';
import { MAX_WORLD_SIZE } from '../../../proto/limits.js';
import {
  makeScratchFolder,
  removeScratchFolder,
  scratchName,
  sweepScratchFolders,
} from '../scratch-folder.js';

const MAX_SOCKET_PATH = 107;
const LONGEST_NAME = `mesh-${MAX_WORLD_SIZE}-${MAX_WORLD_SIZE}`;

export async function makeSocketFolder(): Promise<string> {
  const fits = (base: string): boolean =>
    Buffer.byteLength(path.join(base, `${scratchName()}XXXXXX`, LONGEST_NAME)) <= MAX_SOCKET_PATH;
  const base = fits(tmpdir()) ? tmpdir() : '/tmp';
  await sweepScratchFolders(base);
  return makeScratchFolder(base);
}

/** @returns why it is still there, null: it is not. Nothing depends on it: who has stopped a group must not fail for it */
export const removeSocketFolder = (folder: string): Promise<Error | null> => removeScratchFolder(folder);
