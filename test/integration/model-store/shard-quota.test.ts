/** The quota of a shard store: the least recently used go, what anybody uses stays. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { keepQuota, leaseShards } from '../../../server/model-store/shard-quota.js';

let store: string;
beforeEach(() => {
  store = mkdtempSync(path.join(tmpdir(), 'shardserve-store-'));
  for (const [index, name] of ['old', 'older', 'new'].entries()) {
    mkdirSync(path.join(store, name, 'rank-0'), { recursive: true });
    writeFileSync(path.join(store, name, 'rank-0', 'weights'), Buffer.alloc(1000));
    const at = new Date(Date.UTC(2026, 0, [2, 1, 3][index]!));
    utimesSync(path.join(store, name), at, at);
  }
});
afterEach(() => rmSync(store, { recursive: true, force: true }));

const kept = (): string[] =>
  readdirSync(store)
    .filter((name) => !name.startsWith('.'))
    .sort();

it('deletes the least recently used until the rest fits, and nothing where there is no quota', async () => {
  expect(await keepQuota(store, 0)).toEqual([]);
  expect(await keepQuota(store, 3000)).toEqual([]);
  expect(await keepQuota(store, 2999)).toEqual(['older']);
  expect(await keepQuota(store, 100)).toEqual(['old', 'new']);
  expect(readdirSync(store)).toEqual([]);
});

it('what a model uses stays, and is the most recently used afterwards', async () => {
  const lease = await leaseShards(path.join(store, 'older'), 1000);
  expect(kept()).toEqual(['older']);
  expect(await keepQuota(store, 10)).toEqual([]);
  await lease.giveBack();
  expect(readdirSync(store)).toEqual(['older']);
  expect(await keepQuota(store, 10)).toEqual(['older']);
});

it('what another server uses stays until that one is killed', async () => {
  const module = new URL('../../../server/model-store/shard-quota.js', import.meta.url).href;
  const script = `import { leaseShards } from '${module}'; await leaseShards(process.argv[1], 0); process.stdout.write('leased'); setInterval(() => {}, 1000)`;
  const other = spawn(process.execPath, ['--input-type=module', '-e', script, path.join(store, 'old')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(other.stdout, 'data');
  expect(await keepQuota(store, 10)).toEqual(['older', 'new']);
  other.kill('SIGKILL');
  await once(other, 'exit');
  expect(await keepQuota(store, 10)).toEqual(['old']);
  expect(readdirSync(store)).toEqual([]);
});

it('what was being deleted by a killed server is gone after the next look', async () => {
  mkdirSync(path.join(store, '.trash-x'));
  await keepQuota(store, 0);
  expect(existsSync(path.join(store, '.trash-x'))).toBe(false);
});
