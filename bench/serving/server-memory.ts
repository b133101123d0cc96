/**
 * What a server of ours takes while it serves: all its processes together, beside what it must hold.
 *
 * In      its process; the store of its shards; its metrics
 * Out     a sentence: proportional set sizes (shared pages count once), packed weights, keys and values; and a line a process, by what
 *         its memory is
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { Manifest } from '../../proto/manifest.js';
import { childPids } from '../../tuner/target/server-under-test.js';
import { pssBytes } from '../group-under-test.js';
import { memoryLine } from './memory-map.js';

/** The process and all below it. */
function familyOf(pid: number): number[] {
  return [pid, ...childPids(pid).flatMap(familyOf)];
}

export async function serverMemory(server: { pid: number; url: string }, store: string): Promise<string> {
  const pids = familyOf(server.pid);
  const [own = 0, ...others] = pids.map(pssBytes);
  const all = others.reduce((sum, bytes) => sum + bytes, own);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  const kvBytes = [...metrics.matchAll(/^shardserve_rank_kv_touched_bytes\{[^}]*\} (\S+)$/gm)].reduce(
    (sum, [, value]) => sum + Number(value),
    0,
  );
  const needed = weightBytes(store) + kvBytes;
  const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);
  return (
    `memory: ${1 + others.length} processes ${megabytes(all)} MB (PSS), of it the server's own ${megabytes(own)}; ` +
    `packed weights and keys and values ${megabytes(needed)} MB: ${(all / needed).toFixed(2)} ×\n${pids.map(memoryLine).join('\n')}`
  );
}

/** Those of all ranks of the only model in the store. */
function weightBytes(store: string): number {
  const manifests = readdirSync(store)
    .map((name) => path.join(store, name, 'manifest.json'))
    .filter((file) => existsSync(file));
  const [file] = manifests;
  if (file === undefined) return Number.NaN;
  const { ranks } = JSON.parse(readFileSync(file, 'utf8')) as Manifest;
  return ranks.reduce((sum, { weights }) => sum + weights.bytes, 0);
}
