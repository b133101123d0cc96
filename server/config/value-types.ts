/**
 * What a key's value may be: one small parser a type, each with the words that an error and KEYS.md use.
 *
 * In      the text of a properties file, an environment variable or a flag, and the folder that relative paths start from
 * Out     a typed value, a value with a warning, or a problem
 * Errors  never thrown: a problem is returned, so that all problems of a start are reported at once
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { MAX_CONFIG_FILE_BYTES } from '../../proto/limits.js';
import type { ErrorRate, ListenAddress } from './config.js';

export type Outcome<T> =
  | { readonly value: T; readonly warning?: string }
  /** `sentence` replaces "it must be <expects>". */
  | { readonly problem: true; readonly sentence?: string };

export interface ValueType<T> {
  /** Completes "it must be …". */
  readonly expects: string;
  parse(text: string, baseFolder: string): Outcome<T>;
}

const WRONG = { problem: true } as const;

/** Whole number, both bounds included. */
export function integer(min: number, max: number, unit = ''): ValueType<number> {
  const suffix = unit ? ` ${unit}` : '';
  return {
    expects: `a whole number from ${min} to ${max}${suffix}`,
    parse(text) {
      const value = Number(text);
      return /^[+-]?\d{1,15}$/.test(text) && value >= min && value <= max ? { value } : WRONG;
    },
  };
}

/** A number, both bounds included, perhaps with decimals. */
export function amount(min: number, max: number, unit: string): ValueType<number> {
  return {
    expects: `a number from ${min} to ${max} ${unit}`,
    parse(text) {
      const value = Number(text);
      return /^\d{0,15}\.?\d{1,15}$/.test(text) && value >= min && value <= max ? { value } : WRONG;
    },
  };
}

/** Above 0 and at most 1. */
export function share(): ValueType<number> {
  return {
    expects: 'a number above 0 and at most 1',
    parse(text) {
      const value = Number(text);
      return /^\d*\.?\d+$/.test(text) && value > 0 && value <= 1 ? { value } : WRONG;
    },
  };
}

/** Another type's value, or one of some words with their own value. */
export function orWord<T, W>(type: ValueType<T>, words: Readonly<Record<string, W>>): ValueType<T | W> {
  return {
    expects: `${type.expects}, or ${Object.keys(words).join(', ')}`,
    parse(text, baseFolder) {
      const word = text.toLowerCase();
      return Object.hasOwn(words, word) ? { value: words[word] as W } : type.parse(text, baseFolder);
    },
  };
}

export function boolean(): ValueType<boolean> {
  return {
    expects: 'true or false',
    parse(text) {
      const word = text.toLowerCase();
      return word === 'true' || word === 'false' ? { value: word === 'true' } : WRONG;
    },
  };
}

/** Any text; the empty text means "not set". */
export function text(expects: string): ValueType<string | null> {
  return { expects, parse: (given) => ({ value: given === '' ? null : given }) };
}

/** Text that matches a pattern from end to end. */
export function pattern(expression: RegExp, expects: string): ValueType<string> {
  return { expects, parse: (given) => (expression.test(given) ? { value: given } : WRONG) };
}

/** A folder; relative to the file that names it, or to the working directory. It need not exist yet. */
export function folder(): ValueType<string> {
  return {
    expects: 'a path of a folder',
    parse: (given, baseFolder) => (given === '' ? WRONG : { value: path.resolve(baseFolder, given) }),
  };
}

/** Folders with commas, or `*` for any. */
export function folders(): ValueType<readonly string[]> {
  return {
    expects: 'paths of folders with commas, or *',
    parse: (text, baseFolder) => ({
      value: text
        .split(',')
        .map((one) => one.trim())
        .filter((one) => one !== '')
        .map((one) => (one === '*' ? one : path.resolve(baseFolder, one))),
    }),
  };
}

/** A file; relative as a folder is. Whether it can be read, its reader says. */
export function file(): ValueType<string> {
  return { ...folder(), expects: 'a path of a file' };
}

/** DJLServing's load_on_devices: null: any GPU; []: the CPU. */
export function gpuNumbers(): ValueType<readonly number[] | null> {
  return {
    expects: '*, cpu, -1, or GPUs like 0;1 or gpu0;gpu1',
    parse(text) {
      const entries = text.split(';').map((entry) => entry.trim());
      if (entries.length === 1 && entries[0] === '*') return { value: null };
      if (entries.every((entry) => entry === 'cpu' || entry === '-1')) return { value: [] };
      const numbers = entries.map((entry) => /^(?:gpu)?(\d{1,3})$/.exec(entry)?.[1]);
      return numbers.includes(undefined) ? WRONG : { value: numbers.map(Number) };
    },
  };
}

/** What one word of a `choice` means. */
export type Choice<T> = { value: T; warning?: string } | { refused: string };

/** One of some words, whatever their case. `others` refuses every other word with a sentence. */
export function choice<T>(choices: Readonly<Record<string, Choice<T>>>, others?: string): ValueType<T> {
  const accepted = Object.keys(choices).filter((word) => !('refused' in choices[word]!));
  const byLowerCase = new Map(
    Object.entries(choices).map(([word, meaning]) => [word.toLowerCase(), meaning]),
  );
  return {
    expects: accepted.length === 1 ? accepted[0]! : `one of ${accepted.join(', ')}`,
    parse(given) {
      const meaning = byLowerCase.get(given.toLowerCase());
      if (meaning === undefined) return others ? { problem: true, sentence: others } : WRONG;
      return 'refused' in meaning ? { problem: true, sentence: meaning.refused } : meaning;
    },
  };
}

/** `choice` where each word stands for itself. */
export function oneOf<const T extends string>(...words: T[]): ValueType<T> {
  return choice(Object.fromEntries(words.map((word) => [word, { value: word }])));
}

/** Some of these words with commas, in any order, each once; or `none`. */
export function someOf<T extends string>(...words: T[]): ValueType<readonly T[]> {
  return {
    expects: `none, or some of ${words.join(', ')} with commas`,
    parse(given) {
      if (given.toLowerCase() === 'none') return { value: [] };
      const wanted = new Set(given.split(',').map((word) => word.trim().toLowerCase()));
      return [...wanted].every((word) => words.some((known) => known === word))
        ? { value: words.filter((word) => wanted.has(word)) }
        : WRONG;
    },
  };
}

const MAX_PORT = 65_535;

/** `http://host[:port]` or `unix:/path`, as DJLServing writes its addresses; port 0 lets the system choose. */
export function listenAddress(): ValueType<ListenAddress> {
  return {
    expects: `http://HOST:PORT or https://HOST:PORT with a port from 0 to ${MAX_PORT}, or unix:/PATH`,
    parse(given) {
      const unix = /^unix:(\/.+)$/.exec(given);
      if (unix) return { value: { kind: 'unix', host: '', port: 0, path: unix[1]! } };
      const tcp = /^http(s?):\/\/(\[[0-9a-fA-F:.]+\]|[^:/[\]]+)(?::(\d{1,5}))?\/?$/.exec(given);
      const isTls = tcp?.[1] === 's';
      const port = tcp ? Number(tcp[3] ?? (isTls ? 443 : 80)) : Number.NaN;
      if (!tcp || !(port <= MAX_PORT)) return WRONG;
      const host = tcp[2]!.replace(/^\[|\]$/g, '');
      return { value: { kind: 'tcp', host, port, path: '', ...(isTls && { tls: true }) } };
    },
  };
}

const MAX_RATE_COUNT = 1_000_000;
/** DJLServing's, when no duration is given. */
const DEFAULT_RATE_WINDOW_MS = 60_000;
const MAX_RATE_WINDOW_MS = 86_400_000 * 366;
const DURATION = /^P(?:(\d{1,3})D)?(?:T(?:(\d{1,5})H)?(?:(\d{1,7})M)?(?:(\d{1,9}(?:\.\d{1,3})?)S)?)?$/i;

/** ISO 8601 as far as java.time.Duration reads it; null: it is none, or it is zero. */
function durationMs(text: string): number | null {
  const [matched, days = '0', hours = '0', minutes = '0', seconds = '0'] = DURATION.exec(text) ?? [];
  if (matched === undefined || /[PT]$/i.test(matched)) return null;
  const total = ((Number(days) * 24 + Number(hours)) * 60 + Number(minutes)) * 60 + Number(seconds);
  return total > 0 && total * 1000 <= MAX_RATE_WINDOW_MS ? total * 1000 : null;
}

/** `COUNT[/DURATION]`: so many errors within so long. */
export function errorRate(): ValueType<ErrorRate | null> {
  return {
    expects: `COUNT or COUNT/DURATION, a count from 1 to ${MAX_RATE_COUNT} and an ISO 8601 duration such as PT5M`,
    parse(given) {
      const match = /^(\d{1,7})(?:\/(.+))?$/.exec(given.trim());
      const count = Number(match?.[1]);
      const windowMs = match?.[2] === undefined ? DEFAULT_RATE_WINDOW_MS : durationMs(match[2]);
      if (!(count >= 1 && count <= MAX_RATE_COUNT) || windowMs === null) return WRONG;
      return { value: { count, windowMs } };
    },
  };
}

/** A whole number of units, given to the program in bytes. */
export function byteSize(min: number, max: number, unit: string, bytesPerUnit: number): ValueType<number> {
  const whole = integer(min, max, unit);
  return {
    expects: whole.expects,
    parse(given, baseFolder) {
      const outcome = whole.parse(given, baseFolder);
      return 'value' in outcome ? { value: outcome.value * bytesPerUnit } : outcome;
    },
  };
}

/** Words divided by commas or white space; none is a value, too. */
export function words(expects: string): ValueType<readonly string[]> {
  return { expects, parse: (given) => ({ value: given.split(/[,\s]+/).filter((word) => word !== '') }) };
}

/** `ALL`, `NONE`, or entries divided by commas or white space. */
export function modelList(): ValueType<'ALL' | 'NONE' | readonly string[]> {
  return {
    expects: 'ALL, NONE, or a list of [name[:version[:engine[:devices]]]=]path',
    parse(given) {
      const word = given.trim().toUpperCase();
      if (word === 'ALL' || word === 'NONE') return { value: word };
      const entries = given.split(/[,\s]+/).filter((entry) => entry !== '');
      return entries.length > 0 ? { value: entries } : WRONG;
    },
  };
}

/** A Jinja template: the path of a file that holds it, or the template itself (it has a brace). */
export function template(): ValueType<string | null> {
  return {
    expects: 'a Jinja template or the path of a file that holds one',
    parse(given, baseFolder) {
      if (given === '') return { value: null };
      if (given.includes('{')) return { value: given };
      const file = path.resolve(baseFolder, given);
      if (!existsSync(file) || !statSync(file).isFile()) {
        return { problem: true, sentence: `there is no file ${file}, and it is no Jinja template` };
      }
      const { size } = statSync(file);
      if (size > MAX_CONFIG_FILE_BYTES) {
        return {
          problem: true,
          sentence: `${file} has ${size} bytes, at most ${MAX_CONFIG_FILE_BYTES} are read`,
        };
      }
      return { value: readFileSync(file, 'utf8') };
    },
  };
}
