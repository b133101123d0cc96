/**
 * Which file of a model's folder is its handler.
 *
 * In      the folder; option.entryPoint, `file.ts` or `file.ts:name`, or null
 * Out     HandlerEntry
 * Errors  CHECKPOINT_INVALID: there is none, or it lies outside the folder
 */
import { existsSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { ServingError } from '../../../proto/errors.js';
import { HANDLER_FILES } from '../../../proto/model-files.js';
import { BUILT_IN, type HandlerEntry } from './handler-messages.js';

/** @throws ServingError CHECKPOINT_INVALID */
export function handlerEntryOf(folder: string, entryPoint: string | null): HandlerEntry {
  const builtIn = /^builtin:(.+)$/.exec(entryPoint ?? '')?.[1];
  if (builtIn !== undefined) {
    const known = BUILT_IN.find((name) => name === builtIn);
    if (known) return { folder, file: builtIn, exported: null, builtIn: known };
    throw new ServingError('CHECKPOINT_INVALID', `there is no built-in handler ${builtIn}`);
  }
  const [named = null, exported = null] = entryPoint?.split(':') ?? [];
  const file = named ?? HANDLER_FILES.find((name) => existsSync(path.join(folder, name))) ?? null;
  if (file === null) {
    throw new ServingError('CHECKPOINT_INVALID', `there is none of ${HANDLER_FILES.join(', ')} in ${folder}`);
  }
  const source = path.resolve(folder, file);
  if (!existsSync(source)) {
    throw new ServingError('CHECKPOINT_INVALID', `the handler ${file} is not in ${folder}`);
  }
  const inside = path.relative(realpathSync(folder), realpathSync(source));
  if (inside.startsWith('..') || path.isAbsolute(inside)) {
    throw new ServingError('CHECKPOINT_INVALID', `the handler ${file} lies outside of ${folder}`);
  }
  return { folder, file, exported, builtIn: null };
}
