/**
 * One process at a time makes a model of a cache folder that several servers share; the others wait for it.
 *
 *   .lock-KEY   holds the identity of the process that makes the model KEY
 *
 * Limits  a lock of a process that is gone is taken at once; one of another machine that was not renewed for FOREIGN_LOCK_MS likewise
 * Errors  those of the file system; the signal's
 */
import { randomUUID } from 'node:crypto';
import { readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isAlive, ownIdentity } from './process-identity.js';

const POLL_MS = 200;
const RENEW_MS = 10_000;
const FOREIGN_LOCK_MS = 60_000;

/** Runs `work` while no other process runs one of the same key. */
export async function whileLocked<T>(
  root: string,
  key: string,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  const file = path.join(root, `.lock-${key}`);
  while (!(await take(file))) await delay(POLL_MS, undefined, { signal });
  const renewal = setInterval(() => void utimes(file, new Date(), new Date()).catch(() => {}), RENEW_MS);
  try {
    return await work();
  } finally {
    clearInterval(renewal);
    await rm(file, { force: true });
  }
}

async function take(file: string): Promise<boolean> {
  try {
    await writeFile(file, ownIdentity(), { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  if (!(await isStale(file))) return false;
  // Where several see it, one renames it; the next turn takes the place.
  const stale = `${file}.${randomUUID()}`;
  await rename(file, stale).catch(() => {});
  await rm(stale, { force: true });
  return false;
}

async function isStale(file: string): Promise<boolean> {
  try {
    const owner = await readFile(file, 'utf8');
    const { mtimeMs } = await stat(file);
    const ageMs = Date.now() - mtimeMs;
    // Made a moment ago, and not written yet.
    if (owner === '') return ageMs > FOREIGN_LOCK_MS;
    const alive = isAlive(owner);
    return alive === null ? ageMs > FOREIGN_LOCK_MS : !alive;
  } catch {
    // Given up in between.
    return false;
  }
}
