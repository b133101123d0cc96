/**
 * A model on this machine: a folder, an archive, or a folder with nothing but one of these.
 *
 * In      a path of a folder, an archive or a GGUF file; a relative one starts from the model store, then from the working folder
 * Out     the folder as it is, or a plan to unpack an archive; null when there is nothing of that path
 * Limits  what a request names lies below the folders of `within`; elsewhere there is nothing
 * Errors  those of RegistrationFolders; BAD_REQUEST a file that is no archive; MODEL_NOT_FOUND a folder without a model, no permission
 */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { ServingError } from '../../proto/errors.js';
import { isGgufFile } from '../../proto/gguf-folder.js';
import type { FetchPlan } from './fetch-plan.js';
import { findModelRoot, findOnlyArchive } from './model-root.js';
import { isArchiveName, modelNameOf, type ParsedModelUrl } from './model-source.js';
import type { RegistrationFolders } from './registration-folders.js';

export type LocalModel = { folder: string; suggestedName: string } | { plan: FetchPlan };

/** @throws ServingError */
export async function findLocal(
  given: string,
  { display, suggestedName }: ParsedModelUrl,
  modelStore: string,
  within: RegistrationFolders | null = null,
): Promise<LocalModel | null> {
  for (const base of path.isAbsolute(given) ? ['/'] : [modelStore, process.cwd()]) {
    const place = path.resolve(base, given);
    if (within && !(await within.allows(place))) continue;
    // `.` and `..` have no name of their own.
    const name = /^\.{0,2}$/.test(path.basename(given)) ? modelNameOf(place) : suggestedName;
    let isFolder: boolean;
    try {
      const found = await stat(place);
      isFolder = found.isDirectory();
      const root = isFolder ? await findModelRoot(place) : null;
      if (root !== null) {
        await within?.checkLinks(root);
        return { folder: root, suggestedName: name };
      }
      if (isGgufFile(place)) return { folder: place, suggestedName: name };
      // A pipe or device under an archive's name would only hang its reader.
      const archive = isFolder ? await findOnlyArchive(place) : found.isFile() ? place : null;
      if (archive !== null && isArchiveName(archive))
        return { plan: await planArchive(archive, display, name) };
    } catch (cause) {
      if (cause instanceof ServingError) throw cause;
      const { code } = cause as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ENOTDIR') continue;
      throw new ServingError('MODEL_NOT_FOUND', `${display} cannot be read (${code})`, { cause });
    }
    if (!isFolder) throw new ServingError('BAD_REQUEST', `${display} is neither a folder nor an archive`);
    throw new ServingError(
      'MODEL_NOT_FOUND',
      `There is no model in ${display}: neither config.json, serving.properties, a .gguf or .onnx file or a handler, nor a single archive`,
    );
  }
  return null;
}

async function planArchive(archive: string, display: string, suggestedName: string): Promise<FetchPlan> {
  const { ctimeNs, ino, mtimeNs, size } = await stat(archive, { bigint: true });
  return {
    display,
    suggestedName,
    // Content that changes under the same path is another model.
    identity: `${archive}\n${ino}\n${size}\n${mtimeNs}\n${ctimeNs}`,
    localArchive: archive,
    close: () => undefined,
    fill: async () => undefined,
  };
}
