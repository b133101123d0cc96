/**
 * What engines are called: by themselves, and by DJLServing's and LMI's words.
 *
 * In      a word of a user's; the names of the engines that there are, which is known where the server is put together
 * Out     the engine's own name; or what the word must be
 * Source  DJLServing and LMI
 */
import type { ValueType } from './value-types.js';

const WORDS = {
  Rubikon: 'llm',
  DeepSpeed: 'llm',
  MPI: 'llm',
  Python: 'llm',
  OnnxRuntime: 'onnx',
  Handler: 'handler',
} as const;
const NAMES = new Map<string, string>(
  Object.entries(WORDS).map(([word, name]) => [word.toLowerCase(), name]),
);

/** Those that have a word of DJLServing's. */
export const USUAL_ENGINES: readonly string[] = [...new Set(NAMES.values())];

/** A word that is none of them may be the own name of an engine: unknownEngine says it. */
export const engineWord: ValueType<string | null> = {
  expects: `one of ${Object.keys(WORDS).join(', ')}`,
  parse(given) {
    const word = given.toLowerCase();
    return /^[a-z][\w-]{0,63}$/.test(word) ? { value: NAMES.get(word) ?? word } : { problem: true };
  },
};

/** Completes "it must be …" where there is no engine of this name; null: there is. */
export function unknownEngine(name: string, engines: readonly string[]): string | null {
  if (engines.includes(name)) return null;
  const others = engines.filter((one) => !USUAL_ENGINES.includes(one));
  return [engineWord.expects, ...others].join(', ');
}
