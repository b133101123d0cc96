/** What the tidy tests read: the repository's own sources, as text. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

function findRoot(): string {
  let folder = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(folder, 'package.json'))) folder = path.dirname(folder);
  return folder;
}

export const ROOT = findRoot();

/** The programs and their contract; everything in them is product code. */
export const PRODUCT_FOLDERS = [
  'proto',
  'pipeline',
  'partitioner',
  'shard-worker',
  'calibration',
  'server',
  'tuner',
];

export const readText = (file: string): string => readFileSync(path.join(ROOT, file), 'utf8');

/** Paths from the root, `/` between, sorted; not of installed packages (bench/peers has its own). */
export function filesUnder(folder: string, extensions: readonly string[]): string[] {
  if (!existsSync(path.join(ROOT, folder))) return [];
  return readdirSync(path.join(ROOT, folder), { withFileTypes: true })
    .flatMap((entry) => {
      const file = `${folder}/${entry.name}`;
      if (entry.name === 'node_modules') return [];
      if (entry.isDirectory()) return filesUnder(file, extensions);
      return extensions.some((extension) => entry.name.endsWith(extension)) ? [file] : [];
    })
    .sort();
}

export const productFiles = (): string[] =>
  PRODUCT_FOLDERS.flatMap((folder) => filesUnder(folder, ['.ts', '.mjs']));
