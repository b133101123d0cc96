/** What late imports find behind a symbolic link, when the last file that was looked at is a pipe. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../../../..', import.meta.url));
const LATE_IMPORT = new URL('../../../proto/late-import.js', import.meta.url).href;

let folder = '';

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'late-import-'));
  symlinkSync(path.join(ROOT, 'node_modules'), path.join(folder, 'node_modules'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('a late import', () => {
  it('takes packages by their own paths, behind a symbolic link', () => {
    const program = path.join(folder, 'program.mjs');
    writeFileSync(
      program,
      `import { fstatSync } from 'node:fs';
import 'yauzl';
import { createRequire } from 'node:module';
import { lateImport } from '${LATE_IMPORT}';
fstatSync(1); // a pipe
await lateImport(() => import('protobufjs'));
console.log(Object.keys(createRequire(import.meta.url).cache).filter((file) => file.startsWith('${folder}')));
`,
    );
    const { stderr, stdout } = spawnSync(process.execPath, [program], { encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(stdout).toBe('[]\n');
  });
});
