/**
 * Where a model's GGUF file is: server and partitioner must mean the same one.
 *
 * In      a model's place: its folder, or the file itself
 * Out     the file; null: the model is not in GGUF. A folder with safetensors is a Hugging Face checkpoint, whatever else lies in it
 * Errors  ServingError CHECKPOINT_INVALID: a folder with several; a file in parts
 */
import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { ServingError } from './errors.js';

const GGUF = /\.gguf$/i;
/** llama.cpp's: the part that sees images. */
const PROJECTOR = /^mmproj|mmproj[\w.-]*\.gguf$/i;
const PART = /-\d{5}-of-\d{5}\.gguf$/i;

/** Models in one file have the name that it has without the ending. */
export const withoutGgufEnding = (name: string): string => name.replace(GGUF, '');

/** A path that names a GGUF file. */
export const isGgufFile = (place: string): boolean =>
  GGUF.test(place) && (statSync(place, { throwIfNoEntry: false })?.isFile() ?? false);

/** Whether the model in a folder is in GGUF, however many files there are. */
export const hasGguf = (place: string): boolean => isGgufFile(place) || ggufNames(place).length > 0;

/** @throws ServingError CHECKPOINT_INVALID */
export function ggufOf(place: string): string | null {
  if (isGgufFile(place)) return wholeFile(place);
  const [first, ...others] = ggufNames(place);
  if (first === undefined) return null;
  if (others.length === 0 || PART.test(first)) return wholeFile(path.join(place, first));
  throw new ServingError(
    'CHECKPOINT_INVALID',
    `${place}: ${others.length + 1} GGUF files: name the one that is meant, for example ${path.join(place, first)}`,
  );
}

function wholeFile(file: string): string {
  if (!PART.test(file)) return file;
  throw new ServingError(
    'CHECKPOINT_INVALID',
    `${file}: a part of a model; join the parts (llama-gguf-split --merge)`,
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
