/** A server that is killed leaves no process behind, whatever its children are doing: each spins, and reads no pipe or channel. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { allGone, isRunning } from '../../support/server-process.js';

const PARENT = fileURLToPath(new URL('../../support/parent-of-child.js', import.meta.url));
/** Its pid, whole, under the name that is waited for. */
const SPINS = `
import { renameSync, writeFileSync } from 'node:fs';
writeFileSync(new URL('./pid.part', import.meta.url), String(process.pid));
renameSync(new URL('./pid.part', import.meta.url), new URL('./pid', import.meta.url));
for (;;);
`;

let scratch: string;
let childPid = 0;
beforeEach(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'shardserve-children-'));
  childPid = 0;
});
afterEach(() => {
  if (childPid !== 0 && isRunning(childPid)) process.kill(childPid, 'SIGKILL');
  rmSync(scratch, { recursive: true, force: true });
});

/** There may be other files, and several at once: each change is a look. */
function pidOfChild(): Promise<number> {
  const file = path.join(scratch, 'pid');
  return new Promise((resolve) => {
    const watcher = watch(scratch, look);
    function look(): void {
      if (!existsSync(file)) return;
      watcher.close();
      resolve(Number(readFileSync(file, 'utf8')));
    }
    look();
  });
}

it.each(['partitioner', 'unpacker', 'tokenizer', 'handler'])('ends the %s with the server', async (kind) => {
  const program = path.join(scratch, 'spins.mjs');
  writeFileSync(program, SPINS);
  const parent = spawn(process.execPath, [PARENT, kind, program, scratch], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  childPid = await pidOfChild();
  // 0 and 1 would be everybody.
  assert(childPid > 1);
  // It can do nothing of its own.
  process.kill(childPid, 'SIGSTOP');
  parent.kill('SIGKILL');
  await once(parent, 'close');
  await allGone([childPid]);
  expect(isRunning(childPid)).toBe(false);
});
