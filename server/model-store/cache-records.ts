/**
 * What a cache folder remembers beside its models: which URL gave which model, and who uses which.
 *
 *   .ref-KEY           JSON: a URL without its secrets, and what it gave last; KEY is a hash of the URL
 *   .use-MODEL@OWNER   the process OWNER has the model open
 *
 * A reference is a hint: what it names is there or not. It is written whole by one rename.
 *
 * Limits  MAX_RECORD_BYTES a record
 * Errors  those of the file system; a record that cannot be read is none
 */
import { createHash, randomUUID } from 'node:crypto';
import { readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { isAlive, OWNER_PATTERN, ownIdentity } from './process-identity.js';

const MAX_RECORD_BYTES = 65_536;
const USE = new RegExp(`^\\.use-(.+)@(${OWNER_PATTERN})$`);

export interface CacheRecord {
  /** Without user, password and query. */
  display: string;
  /** Name of the model's folder in the cache. */
  model: string;
  suggestedName: string;
  /** Names the content; null: the source told nothing. */
  identity: string | null;
  /** ETag or date of an http(s) source; null: none. */
  validator: string | null;
}

/** @param source the whole URL, and what else decides where it leads */
const recordFile = (root: string, source: string): string =>
  path.join(root, `.ref-${createHash('sha256').update(source).digest('hex').slice(0, 20)}`);

export async function readRecord(root: string, source: string): Promise<CacheRecord | null> {
  return parseRecord(recordFile(root, source));
}

export async function writeRecord(root: string, source: string, record: CacheRecord): Promise<void> {
  const file = recordFile(root, source);
  const temporary = path.join(root, `.trash-${randomUUID()}`);
  await writeFile(temporary, JSON.stringify(record), { mode: 0o600 });
  await rename(temporary, file);
}

async function parseRecord(file: string): Promise<CacheRecord | null> {
  try {
    if ((await stat(file)).size > MAX_RECORD_BYTES) return null;
    const value = JSON.parse(await readFile(file, 'utf8')) as Partial<CacheRecord> | null;
    const isName = typeof value?.model === 'string' && /^[^./][^/]*$/.test(value.model);
    return isName && typeof value.display === 'string' && typeof value.suggestedName === 'string'
      ? ({ identity: null, validator: null, ...value } as CacheRecord)
      : null;
  } catch {
    return null;
  }
}

/** Every reference, by the file that holds it. */
export async function allRecords(root: string): Promise<Map<string, CacheRecord>> {
  const records = new Map<string, CacheRecord>();
  for (const name of await readdir(root)) {
    if (!name.startsWith('.ref-')) continue;
    const record = await parseRecord(path.join(root, name));
    if (record !== null) records.set(path.join(root, name), record);
  }
  return records;
}

const useFile = (folder: string): string =>
  path.join(path.dirname(folder), `.use-${path.basename(folder)}@${ownIdentity()}`);

/** Others leave the model's folder alone until it is let go. */
export async function markUsed(folder: string): Promise<void> {
  await writeFile(useFile(folder), '');
}

export async function unmarkUsed(folder: string): Promise<void> {
  await rm(useFile(folder), { force: true });
}

/** Names of models that some process has open; marks of processes that are gone are deleted. */
export async function usedModels(root: string): Promise<Set<string>> {
  const used = new Set<string>();
  for (const name of await readdir(root)) {
    const [, model, owner] = USE.exec(name) ?? [];
    if (model === undefined) continue;
    // Nothing is known of another machine: it counts as running.
    if (isAlive(owner!) === false) await rm(path.join(root, name), { force: true });
    else used.add(model);
  }
  return used;
}
