/** A folder of this process, in memory where there is such a file system, for parsers that read files. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const PLACE = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
let folder: string | null = null;

export function scratchFolder(name: string): string {
  if (folder === null) {
    folder = mkdtempSync(path.join(PLACE, 'shardserve-fuzz-'));
    process.once('exit', () => rmSync(folder!, { recursive: true, force: true }));
  }
  const own = path.join(folder, name);
  mkdirSync(own, { recursive: true });
  return own;
}

export function putFile(at: string, file: string, content: string | Uint8Array): string {
  const target = path.join(at, file);
  mkdirSync(path.dirname(target), { recursive: true });
  writeFileSync(target, content);
  return target;
}
