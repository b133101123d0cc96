/**
 * A checkpoint's JSON files, read with suspicion.
 *
 * In      a path; a limit in bytes
 * Out     one JSON object, or a list of them; no key is given twice
 * Limits  MAX_JSON_DEPTH brackets in each other
 * Errors  ServingError CHECKPOINT_INVALID naming the file
 */
import { closeSync, fstatSync, openSync, readFileSync, statSync } from 'node:fs';
import { ServingError } from '../../proto/errors.js';
import { tooDeep } from '../../proto/json-depth.js';

export type JsonObject = Readonly<Record<string, unknown>>;

/** The one kind of error of this folder. `where` is a file, or a file and a tensor. */
export function checkpointError(where: string, what: string, cause?: unknown): ServingError {
  return new ServingError(
    'CHECKPOINT_INVALID',
    `${where}: ${what}`,
    cause === undefined ? undefined : { cause },
  );
}

/** ENOENT and its like, for a message. */
export function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}

/** Opens a plain file for reading. A pipe or a folder is refused before it is opened: opening a pipe would wait for ever. */
export function openPlainFile(path: string): { fd: number; bytes: number; modifiedMs: number } {
  let fd: number | undefined;
  try {
    if (!statSync(path).isFile()) throw checkpointError(path, 'not a plain file');
    fd = openSync(path, 'r');
    const { size, mtimeMs } = fstatSync(fd);
    return { fd, bytes: size, modifiedMs: mtimeMs };
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    if (error instanceof ServingError) throw error;
    if (errorCode(error) === 'ENOENT') throw checkpointError(path, 'the file is missing', error);
    throw checkpointError(path, `cannot be opened (${errorCode(error)})`, error);
  }
}

/** A name that a stranger wrote, for a message: printable and cut. */
export function printableName(name: string): string {
  return /^[\x21-\x7e]{1,200}$/.test(name) ? name : JSON.stringify(name.slice(0, 200));
}

/** The value of a word that a file gives; not of one that every object answers to, like `constructor`. */
export function entryOf<T>(table: Readonly<Record<string, T>>, word: string): T | undefined {
  return Object.hasOwn(table, word) ? table[word] : undefined;
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * @param path file that must exist
 * @param maxBytes longer files are refused unread
 */
export function readJsonFile(
  path: string,
  maxBytes: number,
): { object: JsonObject; bytes: number; modifiedMs: number } {
  return readPlainFile(path, maxBytes, ({ text, ...file }) => ({
    object: parseJsonObject(text, path),
    ...file,
  }));
}

/** A file that is a list of objects. */
export function readJsonList(path: string, maxBytes: number): readonly JsonObject[] {
  const value = readPlainFile(path, maxBytes, ({ text }) => parseJson(text, path));
  if (!Array.isArray(value) || !value.every(isJsonObject))
    throw checkpointError(path, 'not a JSON list of objects');
  return value;
}

function readPlainFile<T>(
  path: string,
  maxBytes: number,
  read: (file: { text: Uint8Array; bytes: number; modifiedMs: number }) => T,
): T {
  const { fd, bytes, modifiedMs } = openPlainFile(path);
  try {
    if (bytes > maxBytes) throw checkpointError(path, `is ${bytes} bytes long, the limit is ${maxBytes}`);
    return read({ text: readFileSync(fd), bytes, modifiedMs });
  } catch (error) {
    if (error instanceof ServingError) throw error;
    throw checkpointError(path, `cannot be read (${errorCode(error)})`, error);
  } finally {
    closeSync(fd);
  }
}

/** @param where file, for the message */
export function parseJsonObject(bytes: Uint8Array, where: string): JsonObject {
  const value = parseJson(bytes, where);
  if (!isJsonObject(value)) throw checkpointError(where, 'not a JSON object');
  return value;
}

function parseJson(bytes: Uint8Array, where: string): unknown {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw checkpointError(where, 'not UTF-8', cause);
  }
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw checkpointError(where, 'not JSON', cause);
  }
  const nested = tooDeep(text);
  if (nested !== null) throw checkpointError(where, `is ${nested}`);
  const twice = findRepeatedKey(text);
  if (twice !== null) {
    throw checkpointError(where, `the key ${printableName(twice)} occurs twice in one object`);
  }
  return value;
}

/**
 * JSON.parse keeps the last of two equal keys silently, so a reader that keeps the first would see another model.
 *
 * @param text valid JSON
 * @returns a key that occurs twice in one object, or null
 */
export function findRepeatedKey(text: string): string | null {
  const open: Set<string>[] = [];
  for (let at = 0; at < text.length; at++) {
    const character = text.charCodeAt(at);
    if (character === BRACE_OPEN) open.push(new Set());
    else if (character === BRACE_CLOSE) open.pop();
    else if (character === QUOTE) {
      const end = stringEnd(text, at);
      if (isColonNext(text, end)) {
        const quoted = text.slice(at, end);
        const key: string = quoted.includes('\\') ? JSON.parse(quoted) : quoted.slice(1, -1);
        const keys = open.at(-1);
        if (keys?.has(key)) return key;
        keys?.add(key);
      }
      at = end - 1;
    }
  }
  return null;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;
const SPACE = 0x20;
const BRACE_OPEN = 0x7b;
const BRACE_CLOSE = 0x7d;

/** Index after the closing quote of the string that begins at `start`. */
function stringEnd(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length && text.charCodeAt(at) !== QUOTE) at += text.charCodeAt(at) === BACKSLASH ? 2 : 1;
  return at + 1;
}

/** Whether the next character that is no white space is a colon: then the string before it was a key. */
function isColonNext(text: string, start: number): boolean {
  let at = start;
  while (text.charCodeAt(at) <= SPACE) at++;
  return text.charCodeAt(at) === COLON;
}
