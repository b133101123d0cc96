/**
 * Keeps a shard store below its quota: the least recently used shards that nobody uses go first.
 *
 * In      the store's folder; the shards that a model is about to use
 * Out     a lease on them, to be given back when the model is closed; shards beyond the quota are deleted
 * Limits  maxBytes over all shards, 0: none. Shards in use stay even beyond it. A lease is a file that carries its process's identity, so
 *         that other servers of this machine see it, and one of a killed server counts no more. Of another machine that shares the
 *         folder: its leases hold until somebody removes them
 * Errors  those of the file system; one that a shard cannot be deleted for is passed over
 *
 * Last used: the time of the shards' folder, which is touched when a model takes them.
 */
import { randomUUID } from 'node:crypto';
import { readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { IDENTITY_PATTERN, isGone, processIdentity } from '../machine/process-identity.js';

const LEASE = new RegExp(`^\\.lease-${IDENTITY_PATTERN}-[0-9a-f-]{36}-(.+)$`);
const TRASH = '.trash-';

export interface ShardLease {
  /** The shards may be deleted, as far as this one goes. */
  giveBack(): Promise<void>;
}

export async function leaseShards(folder: string, maxBytes: number): Promise<ShardLease> {
  const [store, name] = [path.dirname(folder), path.basename(folder)];
  const lease = path.join(store, `.lease-${processIdentity()}-${randomUUID()}-${name}`);
  const now = new Date();
  try {
    await writeFile(lease, '', { mode: 0o600 });
    await utimes(folder, now, now);
  } catch {
    // A store that cannot be written, as in an image: nothing is deleted there either.
    return { giveBack: async () => {} };
  }
  await keepQuota(store, maxBytes);
  return { giveBack: () => rm(lease, { force: true }) };
}

/** @returns names of what was deleted */
export async function keepQuota(store: string, maxBytes: number): Promise<string[]> {
  const inUse = new Set<string>();
  const shards: { name: string; bytes: number; usedMs: number }[] = [];
  for (const name of await readdir(store)) {
    const [, machine, pid, startTime, leased] = LEASE.exec(name) ?? [];
    if (leased !== undefined) {
      if (isGone(machine!, pid!, startTime!)) await rm(path.join(store, name), { force: true });
      else inUse.add(leased);
    } else if (name.startsWith(TRASH)) await rm(path.join(store, name), { recursive: true, force: true });
    else if (!name.startsWith('.')) shards.push({ name, ...(await sizeOf(path.join(store, name))) });
  }
  if (maxBytes === 0) return [];
  let left = shards.reduce((sum, { bytes }) => sum + bytes, 0);
  const deleted: string[] = [];
  for (const { bytes, name } of shards.sort((a, b) => a.usedMs - b.usedMs)) {
    if (left <= maxBytes) break;
    if (inUse.has(name)) continue;
    try {
      const trash = path.join(store, `${TRASH}${randomUUID()}`);
      // First out of sight: nobody finds shards that are half deleted.
      await rename(path.join(store, name), trash);
      await rm(trash, { recursive: true, force: true });
    } catch {
      continue;
    }
    left -= bytes;
    deleted.push(name);
  }
  return deleted;
}

async function sizeOf(folder: string): Promise<{ bytes: number; usedMs: number }> {
  let bytes = 0;
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    bytes += (await stat(path.join(entry.parentPath ?? entry.path, entry.name)).catch(() => null))?.size ?? 0;
  }
  return { bytes, usedMs: (await stat(folder).catch(() => null))?.mtimeMs ?? 0 };
}
