/** The folder of scratch files: made where it is missing, and refused in words where it cannot be. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { ensureTemporaryFolder } from '../../../../server/machine/temporary-folder.js';

const scratch = mkdtempSync(path.join(tmpdir(), 'shardserve-temporary-'));
afterAll(() => rmSync(scratch, { recursive: true }));

it('makes the folder, with those above it', () => {
  const folder = path.join(scratch, 'volume', 'tmp');
  ensureTemporaryFolder(folder);
  expect(existsSync(folder)).toBe(true);
  ensureTemporaryFolder(folder);
});

it('names the setting where it cannot be made', () => {
  const file = path.join(scratch, 'file');
  writeFileSync(file, '');
  expect(() => ensureTemporaryFolder(path.join(file, 'tmp'))).toThrow(
    `${file}/tmp, where sockets and scratch files go, cannot be written (ENOTDIR): set TMPDIR to a folder that can`,
  );
});
