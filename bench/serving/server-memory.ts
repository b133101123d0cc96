/**
 * What a server of ours takes while it serves: all its processes together, beside what it must hold.
 *
 * In      its process; the store of its shards; its metrics
 * Out     a sentence: proportional set sizes (shared pages count once), packed weights, keys and values; and a line a process, by what
 *         its memory is
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import type { Manifest } from '../../proto/manifest.js';
import { processTree } from '../../tuner/target/process-readings.js';
import { pssBytes } from '../group-under-test.js';
import { memoryLine } from './memory-map.js';

/** Those of each rank of the newest model in the store. */
export function weightBytes(store: string): number[] {
  const [file] = readdirSync(store)
    .map((name) => path.join(store, name, 'manifest.json'))
    .filter((name) => existsSync(name))
    .toSorted((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
  if (file === undefined) return [];
  const { ranks } = JSON.parse(readFileSync(file, 'utf8')) as Manifest;
  return ranks.map(({ weights }) => weights.bytes);
}

export async function serverMemory(server: { pid: number; url: string }, store: string): Promise<string> {
  const pids = processTree(server.pid);
  const [own = 0, ...others] = pids.map(pssBytes);
  const all = others.reduce((sum, bytes) => sum + bytes, own);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  const kvBytes = [...metrics.matchAll(/^shardserve_rank_kv_touched_bytes\{[^}]*\} (\S+)$/gm)].reduce(
    (sum, [, value]) => sum + Number(value),
    0,
  );
  const needed = weightBytes(store).reduce((sum, bytes) => sum + bytes, kvBytes);
  const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);
  return (
    `memory: ${1 + others.length} processes ${megabytes(all)} MB (PSS), of it the server's own ${megabytes(own)}; ` +
    `packed weights and keys and values ${megabytes(needed)} MB: ${(all / needed).toFixed(2)} ×\n${pids.map(memoryLine).join('\n')}`
  );
}
