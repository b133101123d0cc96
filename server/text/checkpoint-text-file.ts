/**
 * Reads the text files of a checkpoint that say how its text is made: tokenizer.json, tokenizer_config.json, chat_template.jinja.
 *
 * In      an absolute path
 * Out     parsed JSON object, or text
 * Limits  MAX_TOKENIZER_FILE_BYTES; a longer file is refused unread; MAX_JSON_DEPTH brackets in each other
 * Errors  CHECKPOINT_INVALID naming the file
 */

import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { ServingError } from '../../proto/errors.js';
import { isObject } from '../../proto/is-object.js';
import { tooDeep } from '../../proto/json-depth.js';

/** The largest vocabularies in use (256 k tokens with merges) are below 40 MB. */
export const MAX_TOKENIZER_FILE_BYTES = 256 * 1024 * 1024;

/**
 * A whole text file, or null when there is none.
 *
 * @throws ServingError CHECKPOINT_INVALID: not a file, too long, unreadable
 */
export function readTextFile(file: string): string | null {
  return readBytes(file)?.toString('utf8') ?? null;
}

/** As readTextFile, for a file of bytes. */
export function readBytes(file: string): Buffer | null {
  const name = path.basename(file);
  try {
    const stats = statSync(file, { throwIfNoEntry: false });
    if (stats === undefined) return null;
    if (!stats.isFile()) throw new ServingError('CHECKPOINT_INVALID', `${name} is not a file`);
    if (stats.size > MAX_TOKENIZER_FILE_BYTES) {
      throw new ServingError(
        'CHECKPOINT_INVALID',
        `${name} has ${stats.size} bytes, the limit is ${MAX_TOKENIZER_FILE_BYTES}`,
      );
    }
    return readFileSync(file);
  } catch (error) {
    if (error instanceof ServingError) throw error;
    throw new ServingError('CHECKPOINT_INVALID', `${name} cannot be read`, { cause: error });
  }
}

/**
 * A JSON object from a file, or null when there is no file.
 *
 * @throws ServingError CHECKPOINT_INVALID: as readTextFile, not JSON, nested too deep, not an object
 */
export function readJsonObject(file: string): Record<string, unknown> | null {
  const text = readTextFile(file);
  if (text === null) return null;
  const name = path.basename(file);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ServingError('CHECKPOINT_INVALID', `${name} is not JSON: ${reason.slice(0, 200)}`, {
      cause: error,
    });
  }
  const nested = tooDeep(text);
  if (nested !== null) throw new ServingError('CHECKPOINT_INVALID', `${name} is ${nested}`);
  if (!isObject(value)) throw new ServingError('CHECKPOINT_INVALID', `${name} is not a JSON object`);
  return value;
}
