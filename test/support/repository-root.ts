/** The repository, found from wherever the compiled tests lie. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

function find(folder: string): string {
  if (existsSync(path.join(folder, 'package.json'))) return folder;
  const parent = path.dirname(folder);
  if (parent === folder) throw new Error('no package.json above the tests');
  return find(parent);
}

export const repositoryRoot = find(path.dirname(fileURLToPath(import.meta.url)));
