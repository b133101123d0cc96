/** The partitioner reads strangers' files: nothing secret of the server's environment is in its reach. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { planThenShards } from '../../../server/model-store/ensure-shards.js';

const folder = mkdtempSync(path.join(tmpdir(), 'shardserve-environment-'));
afterEach(() => {
  delete process.env.HF_TOKEN;
  rmSync(folder, { recursive: true, force: true });
});

it('inherits no token', async () => {
  process.env.HF_TOKEN = 'canary';
  const program = path.join(folder, 'tells.mjs');
  writeFileSync(
    program,
    "console.log(JSON.stringify({ event: 'error', code: 'BAD_REQUEST', message: 'sees ' + (process.env.HF_TOKEN ?? 'none') }));",
  );
  const partition = { folder, store: folder, tp: 1, dtype: 'fp32' } as const;
  await expect(planThenShards({ program, partition })).rejects.toThrow('sees none');
});
