/** Disks that fail or fill in the middle of a write: told in words, nothing half made is left, and it works once they are mended. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ensureShards } from '../../../server/model-store/ensure-shards.js';
import { goldenFolder } from '../../support/golden.js';
import { tarBytes } from '../../support/model-store-bytes.js';
import { repositoryRoot } from '../../support/repository-root.js';

const built = (file: string): string => path.join(repositoryRoot, 'dist', file);

let scratch: string;
beforeEach(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'disk-errors-'));
});
afterEach(() => rmSync(scratch, { recursive: true }));

/** A module after which the n-th write to a file fails. */
function failing(code: string, nth: number): string {
  const file = path.join(scratch, `fails-${code}.mjs`);
  writeFileSync(
    file,
    `import fs from 'node:fs';
     import { syncBuiltinESMExports } from 'node:module';
     let writes = 0;
     const check = () => {
       if (++writes === ${nth}) throw Object.assign(new Error('${code}: write'), { code: '${code}' });
     };
     const { writeSync } = fs;
     fs.writeSync = (fd, ...rest) => { if (fd > 2) check(); return writeSync(fd, ...rest); };
     const { open } = fs.promises;
     const handle = await open(process.execPath);
     const { writeFile } = Object.getPrototypeOf(handle);
     Object.getPrototypeOf(handle).writeFile = function (...rest) { check(); return writeFile.apply(this, rest); };
     await handle.close();
     syncBuiltinESMExports();
     `,
  );
  return file;
}

/** A program that opens no connection and looks up no name: whatever tries ends it. */
const WITHOUT_NETWORK = `import net from 'node:net'; import dns from 'node:dns'; import { syncBuiltinESMExports } from 'node:module';
  const never = (what) => () => { console.error('the network is touched: ' + what); process.exit(99); };
  net.Socket.prototype.connect = never('connect'); net.Server.prototype.listen = never('listen');
  dns.lookup = never('lookup'); dns.promises.lookup = never('lookup'); globalThis.fetch = never('fetch');
  syncBuiltinESMExports();`;

it.each([
  ['EIO', 'WORKER_FAILED', /the disk under .* has failed: EIO/],
  ['EROFS', 'WORKER_FAILED', /has failed: EROFS/],
  ['ENOSPC', 'OUT_OF_MEMORY', /no space left for the shards in/],
])('a model is split: %s', async (code, told, words) => {
  const store = path.join(scratch, 'store');
  const program = path.join(scratch, 'partitioner.mjs');
  writeFileSync(
    program,
    `await import('${failing(code, 5)}'); await import('${built('partitioner/main.js')}');`,
  );
  const partition = { folder: goldenFolder('llama'), store, tp: 2, dtype: 'fp32' } as const;
  await expect(ensureShards({ program, partition })).rejects.toMatchObject({
    code: told,
    message: expect.stringMatching(words),
  });
  expect(readdirSync(store)).toEqual([]);
  // The same work on a disk that is well, by a program that has no network.
  writeFileSync(program, `${WITHOUT_NETWORK} await import('${built('partitioner/main.js')}');`);
  expect((await ensureShards({ program, partition })).reused).toBe(false);
});

it.each([
  ['EIO', 'WORKER_FAILED'],
  ['ENOSPC', 'OUT_OF_MEMORY'],
])('an archive is unpacked: %s', async (code, told) => {
  const archive = path.join(scratch, 'model.tar');
  const entries = ['a', 'b', 'c'].map((name) => ({ name, content: 'x'.repeat(1000) }));
  writeFileSync(archive, tarBytes(entries));
  const target = path.join(scratch, 'unpacked');
  const limits = { maxUnpackedBytes: 2 ** 20, maxEntries: 10, maxCompressionRatio: 100 };
  const task = JSON.stringify({ task: 'unpack', archive, target, limits });
  const child = spawn(
    process.execPath,
    ['--import', failing(code, 2), built('server/model-store/unpack-main.js'), task],
    // It ends when its parent's end of this does.
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const events: unknown[] = [];
  for await (const line of createInterface({ input: child.stdout })) events.push(JSON.parse(line));
  expect(events.at(-1)).toMatchObject({ event: 'error', code: told });
  expect(existsSync(target)).toBe(false);
});
