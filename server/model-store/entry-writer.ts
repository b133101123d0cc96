/**
 * Writes admitted entries of an archive below one folder that nobody else writes to.
 *
 * In      relative paths that EntryPolicy has passed, bytes
 * Out     files of mode 0644 and folders of mode 0755, whatever the archive says; flushed to disk
 * Limits  EntryPolicy counts every byte
 * Errors  those of EntryPolicy and of the file system
 */
import { constants } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import path from 'node:path';
import type { EntryPolicy } from './entry-policy.js';

const FILE_MODE = 0o644;
const FOLDER_MODE = 0o755;
/** O_EXCL and O_NOFOLLOW: never over something that is there, never through a link. */
const CREATE = constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY | constants.O_NOFOLLOW;

export class EntryWriter {
  readonly #made = new Set<string>();

  readonly #target: string;
  readonly #policy: EntryPolicy;

  constructor(target: string, policy: EntryPolicy) {
    this.#target = target;
    this.#policy = policy;
  }

  /** @param relative null: the target itself, which is there */
  async makeFolder(relative: string | null): Promise<void> {
    if (relative === null || relative === '.' || this.#made.has(relative)) return;
    await mkdir(path.join(this.#target, relative), { recursive: true, mode: FOLDER_MODE });
    this.#made.add(relative);
  }

  async writeFile(relative: string, content: AsyncIterable<Buffer>): Promise<void> {
    await this.makeFolder(path.posix.dirname(relative));
    const handle = await open(path.join(this.#target, relative), CREATE, FILE_MODE);
    try {
      for await (const chunk of content) {
        this.#policy.count(chunk.length);
        await handle.writeFile(chunk);
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
}
