/**
 * Where the model lies in a folder that came from elsewhere.
 *
 * In      a folder
 * Out     the folder that holds one of MODEL_FILES, or the only archive, or nothing
 * Limits  MAX_WRAPPING_FOLDERS around a model
 * Source  DJLServing 0.36: a single archive in a folder is unpacked
 */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { hasGguf } from '../../proto/gguf-folder.js';
import { hasOnnx, MODEL_FILES, WORKFLOW_FILES } from '../../proto/model-files.js';
import { isArchiveName } from './model-source.js';

/** `model.tar.gz` often holds `model/…`, sometimes `release/model/…`. */
const MAX_WRAPPING_FOLDERS = 2;
/** What operating systems leave in archives. */
const LITTER = /^(?:\..*|__MACOSX)$/;

/** True for a folder with one of MODEL_FILES, with GGUF or ONNX, or a workflow. */
export async function isModelFolder(folder: string): Promise<boolean> {
  const found = await Promise.all(
    [...MODEL_FILES, ...WORKFLOW_FILES].map(async (name) => {
      try {
        return (await stat(path.join(folder, name))).isFile();
      } catch {
        return false;
      }
    }),
  );
  return found.includes(true) || hasGguf(folder) || hasOnnx(folder);
}

/** The model's folder at or below one that holds nothing else; null: there is none. */
export async function findModelRoot(folder: string): Promise<string | null> {
  let root = folder;
  for (let depth = 0; ; depth++) {
    if (await isModelFolder(root)) return root;
    const entries = await contentOf(root);
    const [only] = entries;
    if (entries.length !== 1 || !only?.isDirectory() || depth === MAX_WRAPPING_FOLDERS) return null;
    root = path.join(root, only.name);
  }
}

/** The archive of a folder that holds one archive and nothing else; null: it is not so. */
export async function findOnlyArchive(folder: string): Promise<string | null> {
  const entries = await contentOf(folder);
  const [only] = entries;
  const isOnly = entries.length === 1 && only!.isFile() && isArchiveName(only!.name);
  return isOnly ? path.join(folder, only!.name) : null;
}

async function contentOf(folder: string) {
  const entries = await readdir(folder, { withFileTypes: true });
  return entries.filter(({ name }) => !LITTER.test(name));
}
