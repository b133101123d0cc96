/** A rank takes a manifest that was checked by who started it, and no other. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { readManifest } from '../../../shard-worker/read-manifest.js';

const folder = mkdtempSync(path.join(tmpdir(), 'shardserve-manifest-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

it('takes the text whose hash it was given, and checks any other', async () => {
  const text = '{"worldSize": 2}';
  writeFileSync(path.join(folder, 'manifest.json'), text);
  expect(await readManifest(folder, sha256(text))).toEqual({ worldSize: 2 });
  const wrong = { code: 'SHARDS_INVALID' };
  await expect(readManifest(folder)).rejects.toMatchObject(wrong);
  await expect(readManifest(folder, sha256(`${text} `))).rejects.toMatchObject(wrong);
});
