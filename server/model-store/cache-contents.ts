/**
 * The models of a cache folder as a whole: what there is, and what is deleted to make room.
 *
 * In      the cache folder
 * Out     a list; the names of what was deleted
 * Limits  a model that some process has open is never deleted, whoever asks
 * Errors  those of the file system
 *
 * The time of a model's folder is when it was last asked for or let go: the one that was not used longest goes first.
 */
import { randomUUID } from 'node:crypto';
import { lstat, readdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { discard, sweep } from './cache-folder.js';
import { allRecords, usedModels } from './cache-records.js';

/** A whole model: its name, `-`, and 20 digits of its key. */
const MODEL_NAME = /^[^.].*-[0-9a-f]{20}$/;

export interface CachedModel {
  name: string;
  bytes: number;
  lastUsedMs: number;
  isUsed: boolean;
  /** URLs that gave it, without secrets. */
  urls: readonly string[];
}

/** The one that was not used longest first. */
export async function cachedModels(root: string): Promise<CachedModel[]> {
  const names = await readdir(root).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  if (names.length === 0) return [];
  const used = await usedModels(root);
  const records = [...(await allRecords(root)).values()];
  const models: CachedModel[] = [];
  for (const name of names.filter((one) => MODEL_NAME.test(one))) {
    const folder = path.join(root, name);
    try {
      models.push({
        ...{ name, bytes: await bytesOf(folder), lastUsedMs: (await stat(folder)).mtimeMs },
        ...{
          isUsed: used.has(name),
          urls: records.filter(({ model }) => model === name).map(({ display }) => display),
        },
      });
    } catch (error) {
      // Deleted by another process in between.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return models.sort((a, b) => a.lastUsedMs - b.lastUsedMs);
}

/** Bytes on the disk. */
async function bytesOf(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true })) {
    const { blocks } = await lstat(path.join(folder, entry));
    bytes += blocks * 512;
  }
  return bytes;
}

/** @returns false: it is in use, or not there */
export async function removeModel(root: string, name: string): Promise<boolean> {
  if (!MODEL_NAME.test(name) || (await usedModels(root)).has(name)) return false;
  const folder = path.join(root, name);
  const trash = path.join(root, `.trash-${randomUUID()}`);
  try {
    await rename(folder, trash);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
  // Whoever marked it before it was out of sight may have seen it there.
  if ((await usedModels(root)).has(name)) {
    await rename(trash, folder).catch(() => discard(root, trash));
    return false;
  }
  for (const [file, { model }] of await allRecords(root)) if (model === name) await rm(file, { force: true });
  await rm(trash, { recursive: true, force: true });
  return true;
}

/** Deletes models nobody uses until all together have at most `maxBytes`. @returns what was deleted */
export async function makeRoom(root: string, maxBytes: number): Promise<CachedModel[]> {
  const models = await cachedModels(root);
  let total = models.reduce((sum, { bytes }) => sum + bytes, 0);
  const removed: CachedModel[] = [];
  for (const model of models) {
    if (total <= maxBytes) break;
    if (model.isUsed || !(await removeModel(root, model.name))) continue;
    total -= model.bytes;
    removed.push(model);
  }
  return removed;
}

/** Deletes what killed processes left, interrupted downloads among it, and models that nobody has asked for since `beforeMs`. */
export async function pruneCache(root: string, beforeMs: number): Promise<CachedModel[]> {
  const removed: CachedModel[] = [];
  for (const model of await cachedModels(root)) {
    if (model.lastUsedMs < beforeMs && (await removeModel(root, model.name))) removed.push(model);
  }
  await sweep(root);
  for (const name of await readdir(root)) {
    if (name.startsWith('.partial-')) await discard(root, path.join(root, name));
  }
  return removed;
}
