/**
 * The folder where shards are kept: each set under the name of its content, whole or not at all.
 *
 * In      the store's folder; a content name
 * Out     a shard folder that is there already, or a new one: made beside it under a temporary name, renamed when complete
 * Why so  a rename is atomic: a reader sees nothing or everything, and of two writers at once one wins and the other uses that.
 *         A temporary folder carries host, process and its start time, so that the leavings of a dead process are known as
 *         such and removed by the next one (of another host, whose processes can't be seen: after a day)
 * Errors  ServingError CONFIG_INVALID (a store that can't be written); else what the file system throws
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';
import { ServingError } from '../../proto/errors.js';
import { type FileEntry, type Manifest, parseManifest } from '../../proto/manifest.js';

export const MANIFEST_FILE = 'manifest.json';

const TEMPORARY_PREFIX = '.partial-';
/** Leavings of another host are removed when nothing has touched them for so long. */
const FOREIGN_LEAVINGS_MS = 24 * 60 * 60 * 1000;

export class ShardStore {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = path.resolve(folder);
  }

  shardFolder(name: string): string {
    return path.join(this.folder, name);
  }

  /** The manifest of shards that are complete as far as sizes tell; null: none, or damaged ones. */
  find(name: string): Manifest | null {
    const folder = this.shardFolder(name);
    try {
      const file = path.join(folder, MANIFEST_FILE);
      const manifest = parseManifest(readFileSync(file, 'utf8'), file);
      const isComplete = manifest.name === name && filesOf(manifest).every((entry) => hasSize(folder, entry));
      return isComplete ? manifest : null;
    } catch {
      return null; // whatever is wrong with them, they are made again
    }
  }

  /** An empty folder to fill; give it to `publish` or `discard`. */
  createTemporary(): string {
    try {
      mkdirSync(this.folder, { recursive: true, mode: 0o700 });
      this.removeLeavings();
      const folder = path.join(
        this.folder,
        `${TEMPORARY_PREFIX}${ownMark()}-${randomBytes(4).toString('hex')}`,
      );
      mkdirSync(folder, { mode: 0o700 });
      return folder;
    } catch (cause) {
      throw new ServingError(
        'CONFIG_INVALID',
        `the shard store ${this.folder} cannot be written: ${cause instanceof Error ? cause.message : cause}`,
        { cause },
      );
    }
  }

  /**
   * The complete temporary folder becomes the shards of that name. Where another process was first, its shards stay.
   *
   * @returns the shard folder
   */
  publish(temporary: string, name: string): string {
    const target = this.shardFolder(name);
    syncFolder(temporary);
    for (let attempt = 0; ; attempt++) {
      try {
        renameSync(temporary, target);
        syncFolder(this.folder);
        return target;
      } catch (error) {
        if (attempt === 3 || !isOccupied(error)) throw error;
      }
      if (this.find(name)) {
        this.discard(temporary);
        return target;
      }
      this.#moveAside(target);
    }
  }

  discard(temporary: string): void {
    rmSync(temporary, { recursive: true, force: true });
  }

  /** Temporary folders whose process is dead. */
  removeLeavings(): void {
    for (const entry of readdirSync(this.folder)) {
      if (entry.startsWith(TEMPORARY_PREFIX) && this.#isLeft(entry))
        this.discard(path.join(this.folder, entry));
    }
  }

  #isLeft(entry: string): boolean {
    const [, host, pid, startTime] = /^\.partial-(.*)-(\d+)-(\d+)-[0-9a-f]+$/.exec(entry) ?? [];
    if (host !== hostMark()) {
      const stat = statSync(path.join(this.folder, entry), { throwIfNoEntry: false });
      return stat !== undefined && Date.now() - stat.mtimeMs > FOREIGN_LEAVINGS_MS;
    }
    return processStartTime(Number(pid)) !== startTime;
  }

  /** Damaged shards make room; whoever has them mapped keeps them until it ends. */
  #moveAside(target: string): void {
    const aside = this.createTemporary();
    try {
      renameSync(target, path.join(aside, 'damaged'));
    } catch (error) {
      if (!isMissing(error)) throw error;
    } finally {
      this.discard(aside);
    }
  }
}

function filesOf(manifest: Manifest): FileEntry[] {
  const ranks = manifest.ranks.flatMap((rank) => [rank.weights, ...rank.segments]);
  return manifest.shared ? [manifest.shared, ...ranks] : ranks;
}

function hasSize(folder: string, { path: file, bytes }: FileEntry): boolean {
  return statSync(path.join(folder, file), { throwIfNoEntry: false })?.size === bytes;
}

function ownMark(): string {
  return `${hostMark()}-${process.pid}-${processStartTime(process.pid) ?? '0'}`;
}

const hostMark = (): string => hostname().replaceAll(/[^A-Za-z0-9.]/g, '_');

/** Clock ticks since boot at which a process began: tells it from a later one of the same id. Null: there is none. */
function processStartTime(pid: number): string | null {
  try {
    // Fields after the command's name, which may hold anything, in brackets: the 20th is `starttime`.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

const codeOf = (error: unknown): unknown => (error as NodeJS.ErrnoException).code;
const isMissing = (error: unknown): boolean => codeOf(error) === 'ENOENT';
const isOccupied = (error: unknown): boolean =>
  ['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(String(codeOf(error)));
