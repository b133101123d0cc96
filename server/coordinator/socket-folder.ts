/**
 * The folder of a group's ipc sockets: private (0700), with a path short enough for a Unix socket, gone with the group.
 *
 * Limits  MAX_SOCKET_PATH bytes: sun_path holds 108 with its final zero (unix(7))
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { MAX_WORLD_SIZE } from '../../proto/limits.js';

const MAX_SOCKET_PATH = 107;
const LONGEST_NAME = `mesh-${MAX_WORLD_SIZE}-${MAX_WORLD_SIZE}`;
const PREFIX = 'shardserve-';

/** mkdtemp makes it for its owner alone. */
export async function makeSocketFolder(): Promise<string> {
  const fits = (base: string): boolean =>
    Buffer.byteLength(path.join(base, `${PREFIX}XXXXXX`, LONGEST_NAME)) <= MAX_SOCKET_PATH;
  const base = fits(tmpdir()) ? tmpdir() : '/tmp';
  return mkdtemp(path.join(base, PREFIX));
}

/** @returns why it is still there, null: it is not. Nothing depends on it: who has stopped a group must not fail for it */
export async function removeSocketFolder(folder: string): Promise<Error | null> {
  try {
    await rm(folder, { recursive: true, force: true });
    return null;
  } catch (error) {
    return error as Error;
  }
}
