/**
 * Which paths of this host a management request may register: the model store and what the operator lists.
 *
 * In      a path that a request names; the folder of a model that was found there
 * Out     whether it may be looked at; nothing that lies there is read before
 * Limits  MAX_ENTRIES below a model's folder
 * Errors  CHECKPOINT_INVALID: a link out of the model's folder and of the listed ones, or more entries than that
 *
 * `*` allows folders anywhere; links still lead only into the model's own folder or a listed one, since who may write a link
 * somewhere may not read what it leads to. A link that is changed after the check is followed: who can do that writes to a
 * folder that the operator listed.
 */
import { readdir, realpath } from 'node:fs/promises';
import path from 'node:path';
import { ServingError } from '../../proto/errors.js';

const MAX_ENTRIES = 10_000;

export class RegistrationFolders {
  readonly #folders: readonly string[];
  readonly #isAnywhere: boolean;

  /** @param folders absolute, or `*` */
  constructor(folders: readonly string[]) {
    this.#folders = folders.filter((folder) => folder !== '*');
    this.#isAnywhere = folders.includes('*');
  }

  /** Links followed as far as the path exists, so that the answer tells nothing of what lies elsewhere. */
  async allows(place: string): Promise<boolean> {
    return this.#isAnywhere || this.#isListed(place);
  }

  /** @throws ServingError */
  async checkLinks(folder: string): Promise<void> {
    const own = await realOf(folder);
    let left = MAX_ENTRIES;
    const pending = [folder];
    for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
      for (const entry of await readdir(at, { withFileTypes: true })) {
        if (left-- === 0) {
          throw new ServingError(
            'CHECKPOINT_INVALID',
            `${folder} has more than ${MAX_ENTRIES} files and folders`,
          );
        }
        const place = path.join(at, entry.name);
        if (entry.isDirectory()) pending.push(place);
        if (!entry.isSymbolicLink()) continue;
        if (isBelow(own, await realOf(place)) || (await this.#isListed(place))) continue;
        throw new ServingError(
          'CHECKPOINT_INVALID',
          `${path.relative(folder, place)} is a link out of the model's folder ${folder}; a model that a request registers may link only below the folders of registration_folders`,
        );
      }
    }
  }

  async #isListed(place: string): Promise<boolean> {
    const real = await realOf(place);
    for (const folder of this.#folders) if (isBelow(await realOf(folder), real)) return true;
    return false;
  }
}

/** For what is not there: its nearest folder's, and the rest as named. */
async function realOf(place: string): Promise<string> {
  try {
    return await realpath(place);
  } catch {
    const above = path.dirname(place);
    return above === place ? place : path.join(await realOf(above), path.basename(place));
  }
}

function isBelow(folder: string, place: string): boolean {
  const relative = path.relative(folder, place);
  return relative !== '..' && !relative.startsWith('../') && !path.isAbsolute(relative);
}
