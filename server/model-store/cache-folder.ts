/**
 * The folder of fetched models: what is in it is whole, what is not whole has another name.
 *
 *   NAME-KEY              a model, whole; KEY is a hash of what identifies its content
 *   .work-KEY-OWNER-…     being made by the process that OWNER names
 *   .once-…-OWNER-…       the same, of no use to anybody else
 *   .partial-KEY          interrupted; the next fetch of KEY takes it over by renaming it
 *   .trash-…              being deleted
 *   .lock-… .ref-… .use-… cache-lock.ts, cache-records.ts
 *
 * Every step from one to the other is one rename: whatever happens between processes that share the folder, a model is whole or not
 * there. A killed process leaves work that the next sweep recognises, by process id AND start time.
 *
 * Limits  partials older than PARTIAL_DAYS and work of another machine older than FOREIGN_WORK_DAYS are deleted
 * Errors  those of the file system
 */
import { createHash, randomUUID } from 'node:crypto';
import { renameSync } from 'node:fs';
import { mkdir, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import path from 'node:path';
import { isAlive, OWNER_PATTERN, ownIdentity } from './process-identity.js';

const PARTIAL_DAYS = 7;
const FOREIGN_WORK_DAYS = 1;
const DAY_MS = 86_400_000;
const KEY_LENGTH = 20;
const MAX_NAME_LENGTH = 64;
const WORK = new RegExp(`^\\.(work|once)-([0-9a-f]+)-(${OWNER_PATTERN})-`);

export interface CacheEntry {
  /** Path of the whole model. */
  final: string;
  key: string;
}

/** @param identity names the content; null: nothing else will ever be the same */
export function cacheEntry(root: string, suggestedName: string, identity: string | null): CacheEntry {
  const key = createHash('sha256')
    .update(identity ?? randomUUID())
    .digest('hex')
    .slice(0, KEY_LENGTH);
  return { final: path.join(root, `${suggestedName.slice(0, MAX_NAME_LENGTH)}-${key}`), key };
}

/**
 * A folder to work in, with what an interrupted fetch of the same content has left.
 *
 * @param isResumable false: nobody continues what is interrupted here
 */
export async function claimWork(root: string, { key }: CacheEntry, isResumable: boolean): Promise<string> {
  await mkdir(root, { recursive: true, mode: 0o700 });
  await sweep(root);
  const kind = isResumable ? 'work' : 'once';
  const work = path.join(root, `.${kind}-${key}-${ownIdentity()}-${randomUUID().slice(0, 8)}`);
  const partial = path.join(root, `.partial-${key}`);
  try {
    if (!isResumable) throw new Error('nothing to take over');
    await rename(partial, work);
    await utimes(work, new Date(), new Date());
  } catch {
    await mkdir(work, { mode: 0o700 });
  }
  return work;
}

/** Makes a finished folder visible. Of two processes that made the same one, the first wins. */
export async function publish(folder: string, { final }: CacheEntry): Promise<void> {
  try {
    await rename(folder, final);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error;
  }
}

/** Keeps interrupted work for the next fetch of the same content. */
export async function keepPartial(root: string, work: string, key: string): Promise<void> {
  try {
    await rename(work, path.join(root, `.partial-${key}`));
  } catch {
    // Another process has left its own.
    await discard(root, work);
  }
}

/** Deletes a folder of the cache; it is out of sight before this returns its promise, so that nobody finds it half deleted. */
export async function discard(root: string, folder: string): Promise<void> {
  const trash = path.join(root, `.trash-${randomUUID()}`);
  try {
    renameSync(folder, trash);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  await rm(trash, { recursive: true, force: true });
}

/** Tidies up after processes that were killed; a folder that is not there is tidy. */
export async function sweep(root: string): Promise<void> {
  for (const name of await readdir(root).catch(() => [])) {
    const folder = path.join(root, name);
    const [, kind, key, owner = ''] = WORK.exec(name) ?? [];
    if (kind !== undefined) {
      const alive = isAlive(owner);
      const isOver = alive === null ? await isOlder(folder, FOREIGN_WORK_DAYS * DAY_MS) : !alive;
      if (isOver && kind === 'work') await keepPartial(root, folder, key!);
      else if (isOver) await discard(root, folder);
    } else if (name.startsWith('.partial-')) {
      if (await isOlder(folder, PARTIAL_DAYS * DAY_MS)) await discard(root, folder);
    } else if (name.startsWith('.trash-')) {
      await rm(folder, { recursive: true, force: true });
    }
  }
}

async function isOlder(folder: string, ageMs: number): Promise<boolean> {
  try {
    return Date.now() - (await stat(folder)).mtimeMs > ageMs;
  } catch {
    return false;
  }
}
