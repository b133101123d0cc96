/**
 * The folder of a group's ipc sockets: private (0700), with a path short enough for a Unix socket, gone with the group. One that a killed
 * server has left is removed with the next that is made, known by the identity of its process.
 *
 * Limits  MAX_SOCKET_PATH bytes: sun_path holds 108 with its final zero (unix(7))
 */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { MAX_WORLD_SIZE } from '../../../proto/limits.js';
import { IDENTITY_PATTERN, isGone, processIdentity } from '../process-identity.js';

const MAX_SOCKET_PATH = 107;
const LONGEST_NAME = `mesh-${MAX_WORLD_SIZE}-${MAX_WORLD_SIZE}`;
const PREFIX = 'shardserve-';
const NAME = new RegExp(`^${PREFIX}${IDENTITY_PATTERN}-`);

/** mkdtemp makes it for its owner alone. */
export async function makeSocketFolder(): Promise<string> {
  const prefix = `${PREFIX}${processIdentity()}-`;
  const fits = (base: string): boolean =>
    Buffer.byteLength(path.join(base, `${prefix}XXXXXX`, LONGEST_NAME)) <= MAX_SOCKET_PATH;
  const base = fits(tmpdir()) ? tmpdir() : '/tmp';
  await removeLeftovers(base);
  return mkdtemp(path.join(base, prefix));
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

/** Killed servers' go. What is another user's stays. */
async function removeLeftovers(base: string): Promise<void> {
  for (const name of await readdir(base)) {
    const [, machine, pid, startTime] = NAME.exec(name) ?? [];
    if (machine !== undefined && isGone(machine, pid!, startTime!))
      await removeSocketFolder(path.join(base, name));
  }
}
