/**
 * What an archive may hold: the rules for every entry, whatever the format.
 *
 * In      entries as the archive's author wants them: names, kinds, sizes are all untrusted
 * Out     a relative path that stays inside the target folder, or a refusal; running totals against the limits
 * Limits  entries, unpacked bytes, ratio (past RATIO_FLOOR_BYTES), MAX_PATH_BYTES, MAX_NAME_BYTES, MAX_PATH_DEPTH
 * Errors  CHECKPOINT_INVALID for what no honest archive holds, BAD_REQUEST for a limit
 * Pure    nothing is written here
 *
 * Nothing is repaired: one bad entry refuses the archive. Links are refused whole rather than resolved, since weights,
 * configurations and tokenizers need none.
 */
import { ServingError } from '../../proto/errors.js';

export interface UnpackLimits {
  maxUnpackedBytes: number;
  maxEntries: number;
  maxCompressionRatio: number;
}

export interface ArchiveEntry {
  name: string;
  kind: 'file' | 'directory';
  declaredBytes: number;
}

export const MAX_PATH_BYTES = 1024;
export const MAX_NAME_BYTES = 255;
export const MAX_PATH_DEPTH = 16;
/** A few repetitive JSON files shrink well; so much may come out before the ratio counts. */
export const RATIO_FLOOR_BYTES = 1024 * 1024;

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it looks for
const CONTROL_CHARACTER = /[\u0000-\u001f\u007f]/;

/**
 * The segments of a relative path that stays where it is put.
 *
 * @returns [] for the folder itself (`./`); a string: why it is refused
 */
export function safeSegments(name: string): string[] | string {
  if (name === '') return 'has an empty name';
  if (CONTROL_CHARACTER.test(name)) return 'has a control character in its name';
  if (name.includes('\uFFFD')) return 'has a name that is not UTF-8';
  if (name.includes('\\')) return 'has a backslash in its name';
  if (name.startsWith('/') || /^[A-Za-z]:/.test(name)) return 'has an absolute path';
  if (Buffer.byteLength(name) > MAX_PATH_BYTES) return `has a path longer than ${MAX_PATH_BYTES} bytes`;
  // `tar -C folder .` writes ./ before every name, and folders end with /.
  const path = name.replace(/^\.(?:\/|$)/, '').replace(/\/$/, '');
  if (path === '') return [];
  const segments = path.split('/');
  if (segments.includes('..')) return 'leaves the target folder by ..';
  if (segments.includes('.') || segments.includes('')) return 'has an empty or . segment in its path';
  if (segments.length > MAX_PATH_DEPTH) return `lies deeper than ${MAX_PATH_DEPTH} folders`;
  if (segments.some((segment) => Buffer.byteLength(segment) > MAX_NAME_BYTES)) {
    return `has a name longer than ${MAX_NAME_BYTES} bytes`;
  }
  return segments;
}

/** The rules applied to one archive, entry by entry. */
export class EntryPolicy {
  #entries = 0;
  #declaredBytes = 0;
  #unpackedBytes = 0;
  /** Path in the one spelling that every file system agrees on → exact path and kind. */
  readonly #paths = new Map<string, { exact: string; kind: 'file' | 'directory' }>();

  /** @param archiveBytes size of the archive file */
  readonly #limits: UnpackLimits;
  readonly #archiveBytes: number;

  constructor(limits: UnpackLimits, archiveBytes: number) {
    this.#limits = limits;
    this.#archiveBytes = archiveBytes;
  }

  /**
   * @returns the path to write to, relative, with `/`; null for the target folder itself
   * @throws ServingError
   */
  admit(entry: ArchiveEntry): string | null {
    this.#entries += 1;
    if (this.#entries > this.#limits.maxEntries) {
      throw limit(`The archive has more than ${this.#limits.maxEntries} entries`);
    }
    const segments = safeSegments(entry.name);
    if (typeof segments === 'string') throw refused(entry.name, segments);
    if (segments.length === 0) {
      if (entry.kind !== 'directory') throw refused(entry.name, 'has an empty name');
      return null;
    }
    if (!Number.isSafeInteger(entry.declaredBytes) || entry.declaredBytes < 0) {
      throw refused(entry.name, `says that it has ${entry.declaredBytes} bytes`);
    }
    this.#declaredBytes += entry.declaredBytes;
    this.#checkTotal(this.#declaredBytes);
    this.#claimPath(entry, segments);
    return segments.join('/');
  }

  /**
   * Bytes that came out of the archive for a file, as they come out.
   *
   * @throws ServingError
   */
  count(bytes: number): void {
    this.#unpackedBytes += bytes;
    this.#checkTotal(this.#unpackedBytes);
    this.checkRatio(this.#unpackedBytes);
  }

  /**
   * @param bytes out of the decompressor so far, headers and padding included
   * @throws ServingError
   */
  checkRatio(bytes: number): void {
    const { maxCompressionRatio } = this.#limits;
    if (bytes > RATIO_FLOOR_BYTES && bytes > this.#archiveBytes * maxCompressionRatio) {
      throw limit(
        `The archive of ${this.#archiveBytes} bytes unpacks to more than ${maxCompressionRatio} times its size`,
      );
    }
  }

  get totals(): { entries: number; unpackedBytes: number } {
    return { entries: this.#entries, unpackedBytes: this.#unpackedBytes };
  }

  #checkTotal(bytes: number): void {
    if (bytes > this.#limits.maxUnpackedBytes) {
      throw limit(
        `The archive unpacks to at least ${bytes} bytes, at most ${this.#limits.maxUnpackedBytes} are allowed`,
      );
    }
  }

  /** Every folder on the way counts as claimed too, so that `A/x` and `a/y` collide. */
  #claimPath(entry: ArchiveEntry, segments: readonly string[]): void {
    segments.forEach((_, index) => {
      const exact = segments.slice(0, index + 1).join('/');
      const isLast = index === segments.length - 1;
      const kind = isLast ? entry.kind : 'directory';
      const key = exact.normalize('NFC').toLowerCase();
      const before = this.#paths.get(key);
      if (before === undefined) {
        this.#paths.set(key, { exact, kind });
      } else if (before.exact !== exact) {
        throw refused(entry.name, `collides with ${quoted(before.exact)} where letter case does not count`);
      } else if (before.kind !== kind) {
        throw refused(entry.name, 'is both a file and a folder');
      } else if (isLast && kind === 'file') {
        throw refused(entry.name, 'comes twice');
      }
    });
  }
}

/** A refusal of one entry; the name is cut and quoted, since it may hold anything. */
export function refused(name: string, reason: string): ServingError {
  return new ServingError('CHECKPOINT_INVALID', `The archive is refused: entry ${quoted(name)} ${reason}`);
}

function quoted(name: string): string {
  return JSON.stringify(name.length > 100 ? `${name.slice(0, 100)}…` : name);
}

function limit(message: string): ServingError {
  return new ServingError('BAD_REQUEST', message);
}
