/** A bad model among several ends a start before the others have loaded. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { repositoryRoot } from '../support/repository-root.js';
import { ServerProcess } from '../support/server-process.js';

const scratch = mkdtempSync(path.join(tmpdir(), 'shardserve-bad-model-'));
afterAll(() => rmSync(scratch, { recursive: true }));

it('is told at once, and nothing is written or started for the good ones', async () => {
  const store = path.join(scratch, 'models');
  mkdirSync(path.join(store, 'unheard-of'), { recursive: true });
  symlinkSync(path.join(repositoryRoot, 'models', 'embedded'), path.join(store, 'embedded'));
  const config = { model_type: 'unheard_of', architectures: ['UnheardOfForCausalLM'] };
  writeFileSync(path.join(store, 'unheard-of', 'config.json'), JSON.stringify(config));
  const shards = path.join(scratch, 'shards');
  mkdirSync(shards);
  const server = new ServerProcess({ SERVING_MODEL_STORE: store, SERVING_SHARD_STORE: shards });
  expect(await server.exited).toBe(1);
  const told = server.lines.filter(({ level }) => Number(level) >= 50).map(({ msg }) => msg);
  expect(told).toEqual([expect.stringMatching(/^model unheard_of could not be loaded: /)]);
  expect(server.lines.some(({ msg }) => msg === 'worker group starts')).toBe(false);
  expect(readdirSync(shards)).toEqual([]);
});
