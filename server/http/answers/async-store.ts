/**
 * Asynchronous answers on disk, so that a token is worth something after a restart: a file an answer.
 *
 * In      a folder of this server alone; how it is made so
 * Out     at the start: what was kept; an answer that was not there yet when the server ended is told as one that failed
 * Limits  what async-results.ts keeps is what lies here: a file that it forgets goes; at the start, files above its limits, of the past
 *         or damaged go, too. Folder 0700, files 0600, names of our own form alone are ever touched
 * Errors  CONFIG_INVALID: the folder cannot be had, or is another server's. Later ones (a full disk) are logged, and the answer is kept in memory
 */
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, unlinkSync } from 'node:fs';
import { rename, unlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { isErrorCode, ServingError } from '../../../proto/errors.js';

const FORM = 1;
const NAME = /^([0-9a-f-]{36})\.json$/;
const HALF_WRITTEN = /^[0-9a-f-]{36}\.json\.new$/;
/** What JSON may make of a byte of text. */
const MOST_BYTES_OF_ONE = 6;
const HEAD_BYTES = 65_536;

/** An answer that ended. */
export interface KeptResult {
  id: string;
  owner: string | null;
  contentType: string;
  items: readonly string[];
  error: ServingError | null;
  /** By the wall clock: it must mean the same to the next process. */
  endedAt: number;
}

/** One that an earlier server left. */
export interface LoadedResult extends KeptResult {
  /** What its items take. */
  bytes: number;
}

interface ResultFile {
  form: typeof FORM;
  owner: string | null;
  /** null: it has not ended. */
  endedAt: number | null;
  contentType: string;
  items: readonly string[];
  error: { code: string; message: string } | null;
}

/** Makes a folder this server's, until it is given back. @throws ServingError CONFIG_INVALID: it is another's */
export type OwnFolder = (folder: string, key: string) => { giveBack(): void };

const nobodys: OwnFolder = () => ({ giveBack: () => {} });

export class AsyncStore {
  readonly #folder: string;
  readonly #onProblem: (sentence: string) => void;
  readonly #lease: ReturnType<OwnFolder>;
  /** What is still to be written or removed, an id after the other of its kind. */
  readonly #pending = new Map<string, Promise<void>>();

  /** @throws ServingError CONFIG_INVALID */
  constructor(folder: string, onProblem: (sentence: string) => void, own: OwnFolder = nobodys) {
    this.#folder = folder;
    this.#onProblem = onProblem;
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      chmodSync(folder, 0o700);
      this.#lease = own(folder, 'async_result_folder');
    } catch (error) {
      if (error instanceof ServingError) throw error;
      const { message } = error as Error;
      throw new ServingError('CONFIG_INVALID', `async_result_folder: ${message}`, { cause: error });
    }
  }

  /** What an earlier server left, the first that ended first; at most so many and so large. What is not told is removed. */
  load(limits: { maxResults: number; maxBytes: number; ttlMs: number }, now = Date.now()): LoadedResult[] {
    const found: LoadedResult[] = [];
    for (const name of readdirSync(this.#folder)) {
      const [, id] = NAME.exec(name) ?? [];
      const file = path.join(this.#folder, name);
      if (id === undefined) {
        if (HALF_WRITTEN.test(name)) removeNow(file);
        continue;
      }
      const result = this.#read(file, id, limits.maxBytes, now);
      if (result === null || now - result.endedAt >= limits.ttlMs) removeNow(file);
      else found.push(result);
    }
    found.sort((a, b) => b.endedAt - a.endedAt);
    let bytes = 0;
    const kept = found.filter((result, index) => {
      bytes += result.bytes;
      if (index < limits.maxResults && bytes <= limits.maxBytes) return true;
      removeNow(this.#file(result.id));
      return false;
    });
    return kept.reverse();
  }

  /** Its job runs: should the server end before it does, the next one knows of it. */
  begun(id: string, owner: string | null): Promise<void> {
    return this.#write(id, { ...EMPTY, owner });
  }

  ended({ id, endedAt, error, ...rest }: KeptResult): Promise<void> {
    const told = error && { code: error.code, message: error.message };
    return this.#write(id, { form: FORM, endedAt, error: told, ...rest });
  }

  forget(id: string): void {
    void this.#after(id, async () => {
      await unlink(this.#file(id)).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error;
      });
    });
  }

  /** All that was told is on disk, and another server may have the folder. */
  async close(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all(this.#pending.values());
    this.#lease.giveBack();
  }

  #write(id: string, content: ResultFile): Promise<void> {
    return this.#after(id, async () => {
      const file = this.#file(id);
      await writeFile(`${file}.new`, JSON.stringify(content), { mode: 0o600 });
      await rename(`${file}.new`, file);
    });
  }

  /** @returns when it is done, or has failed and was logged */
  #after(id: string, act: () => Promise<void>): Promise<void> {
    const before = this.#pending.get(id) ?? Promise.resolve();
    const done = before.then(act).catch((error: Error) => {
      this.#onProblem(`an asynchronous answer is not kept on disk: ${error.message}`);
    });
    const own = done.then(() => {
      if (this.#pending.get(id) === own) this.#pending.delete(id);
    });
    this.#pending.set(id, own);
    return own;
  }

  #read(file: string, id: string, maxBytes: number, now: number): LoadedResult | null {
    try {
      if (statSync(file).size > maxBytes * MOST_BYTES_OF_ONE + HEAD_BYTES)
        throw new Error('larger than an answer may be');
      const content = JSON.parse(readFileSync(file, 'utf8')) as ResultFile;
      if (!isResultFile(content)) throw new Error('not of our form');
      const { contentType, endedAt, error, items, owner } = content;
      const bytes = items.reduce((sum, item) => sum + Buffer.byteLength(item), 0);
      if (endedAt !== null)
        return { id, owner, contentType, items, endedAt, bytes, error: error && errorOf(error) };
      const lost = new ServingError(
        'SHUTTING_DOWN',
        'The server ended before the answer was there; ask again',
      );
      return { id, owner, contentType, items: [], endedAt: now, bytes: 0, error: lost };
    } catch (error) {
      this.#onProblem(
        `${path.basename(file)} in async_result_folder is removed: ${(error as Error).message}`,
      );
      return null;
    }
  }

  #file(id: string): string {
    return path.join(this.#folder, `${id}.json`);
  }
}

const EMPTY: ResultFile = { form: FORM, owner: null, endedAt: null, contentType: '', items: [], error: null };

function isResultFile(content: ResultFile | null): content is ResultFile {
  if (typeof content !== 'object' || content === null || content.form !== FORM) return false;
  const { contentType, endedAt, error, items, owner } = content;
  return (
    (owner === null || typeof owner === 'string') &&
    (endedAt === null || Number.isFinite(endedAt)) &&
    typeof contentType === 'string' &&
    Array.isArray(items) &&
    items.every((item) => typeof item === 'string') &&
    (error === null || (typeof error === 'object' && typeof error.message === 'string'))
  );
}

function errorOf({ code, message }: { code: string; message: string }): ServingError {
  return new ServingError(isErrorCode(code) ? code : 'INTERNAL', message);
}

function removeNow(file: string): void {
  try {
    unlinkSync(file);
  } catch {
    // Somebody was faster, or it cannot be removed: the next start tries again.
  }
}
