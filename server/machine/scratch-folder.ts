/**
 * Temporary folders that carry the identity of the process that made them: what a killed one has left is known, and removed by the next.
 *
 * In      where; what for, as a part of the name
 * Out     a folder of mode 0700
 * Limits  what is another user's, another machine's or a living process's stays
 * Errors  those of the file system in making one; none in sweeping
 */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { IDENTITY_PATTERN, isGone, processIdentity } from './process-identity.js';

const PREFIX = 'shardserve-';
const NAME = new RegExp(`^${PREFIX}${IDENTITY_PATTERN}-`);

/** The folder's name, but for the six letters that mkdtemp adds. @param label '' or a word and a hyphen */
export const scratchName = (label = ''): string => `${PREFIX}${processIdentity()}-${label}`;

/** mkdtemp makes it for its owner alone. */
export const makeScratchFolder = (base: string, label = ''): Promise<string> =>
  mkdtemp(path.join(base, scratchName(label)));

/** @returns why it is still there, null: it is not */
export async function removeScratchFolder(folder: string): Promise<Error | null> {
  try {
    await rm(folder, { recursive: true, force: true });
    return null;
  } catch (error) {
    return error as Error;
  }
}

/** Killed processes' go. What is another user's stays. */
export async function sweepScratchFolders(base: string): Promise<void> {
  for (const name of await readdir(base).catch(() => [])) {
    const [, machine, pid, startTime] = NAME.exec(name) ?? [];
    if (machine !== undefined && isGone(machine, pid!, startTime!))
      await removeScratchFolder(path.join(base, name));
  }
}
