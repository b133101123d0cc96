/**
 * Where a model's GGUF file is: server and partitioner must mean the same one.
 *
 * In      a model's place: its folder, or the file itself
 * Out     the file, of a model in parts (X-00001-of-00003.gguf) the first; null: the model is not in GGUF. A folder with safetensors is a
 *         Hugging Face checkpoint, whatever else lies in it
 * Errors  ServingError CHECKPOINT_INVALID: a folder with several; a part that is not the first; a part that is missing
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { ServingError } from './errors.js';

const GGUF = /\.gguf$/i;
const GGUF_LENGTH = '.gguf'.length;
/** llama.cpp's: the part that sees images. */
const PROJECTOR = /^mmproj|mmproj[\w.-]*\.gguf$/i;
/** llama.cpp's names of parts. */
const PART = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/is;

/** Models in one file have the name that it has without the ending, and without a part's number. */
export const withoutGgufEnding = (name: string): string => PART.exec(name)?.[1] ?? name.replace(GGUF, '');

/** A part that is not the first: no model by itself. */
export const isLaterGgufPart = (name: string): boolean => Number(PART.exec(name)?.[2] ?? 1) !== 1;

/** Whether both are parts of one model, or the same file. */
export function isSameGguf(one: string, other: string): boolean {
  const [, stem, , count] = PART.exec(one) ?? [];
  const [, otherStem, , otherCount] = PART.exec(other) ?? [];
  return stem === undefined ? one === other : stem === otherStem && count === otherCount;
}

/** All files of a model, by what ggufOf gave. @throws ServingError CHECKPOINT_INVALID: one is missing */
export function ggufPartFiles(file: string): string[] {
  const [, stem, , count = '1'] = PART.exec(file) ?? [];
  if (stem === undefined) return [file];
  const files: string[] = [];
  for (let part = 1; part <= Number(count); part++) {
    const next = `${stem}-${String(part).padStart(5, '0')}-of-${count}${file.slice(-GGUF_LENGTH)}`;
    if (!existsSync(next)) {
      throw new ServingError('CHECKPOINT_INVALID', `${next}: part ${part} of ${Number(count)} is missing`);
    }
    files.push(next);
  }
  return files.length > 0 ? files : [file];
}

/** A path that names a GGUF file. */
export const isGgufFile = (place: string): boolean =>
  GGUF.test(place) && (statSync(place, { throwIfNoEntry: false })?.isFile() ?? false);

/** Whether the model in a folder is in GGUF, however many files there are. */
export const hasGguf = (place: string): boolean => isGgufFile(place) || ggufNames(place).length > 0;

/** @throws ServingError CHECKPOINT_INVALID */
export function ggufOf(place: string): string | null {
  if (isGgufFile(place)) return firstPart(place);
  const [first, ...others] = ggufNames(place);
  if (first === undefined) return null;
  if (others.every((other) => isSameGguf(first, other))) return firstPart(path.join(place, first));
  throw new ServingError(
    'CHECKPOINT_INVALID',
    `${place}: ${others.length + 1} GGUF files: name the one that is meant, for example ${path.join(place, first)}`,
  );
}

function firstPart(file: string): string {
  if (!isLaterGgufPart(file)) return file;
  throw new ServingError(
    'CHECKPOINT_INVALID',
    `${file}: a part of a model; name the first of them, ${withoutGgufEnding(file)}-00001-of-…`,
  );
}

function ggufNames(folder: string): string[] {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return []; // No folder: whoever wants its files says so.
  }
  if (names.some((name) => name.endsWith('.safetensors'))) return [];
  return names.filter((name) => GGUF.test(name) && !PROJECTOR.test(name)).sort();
}
