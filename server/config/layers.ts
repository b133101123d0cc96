/**
 * Layers of settings: where a value was given, and which one wins.
 *
 * In      properties files, the environment, flags, the arguments of a registration
 * Out     a layer each: its entries with their rows; `applyLayers` folds layers, the strongest last, into typed fields
 * Errors  unknown keys, keys out of place and bad values go to Problems with file, line, key, value and range
 */
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import type { KeyRow } from './key-row.js';
import {
  findEnvironment,
  findKey,
  isOption,
  looksLikeOurs,
  misspeltOption,
  nearestEnvironment,
  nearestKey,
  targetOf,
} from './key-table.js';
import type { Problems } from './problems.js';
import { MAX_FILE_BYTES, PropertiesSyntaxError, type Property, parseProperties } from './properties-file.js';

export interface Entry {
  readonly row: KeyRow;
  /** As the user wrote it: the key, or the name of the environment variable. */
  readonly given: string;
  readonly text: string;
  /** `serving.properties:12`, `environment`, `flag -m`, `load_models entry`. */
  readonly where: string;
  /** Relative paths start here. */
  readonly baseFolder: string;
}

export type Layer = readonly Entry[];

/** A value and where it came from. */
export interface Setting {
  readonly value: unknown;
  readonly where: string;
  readonly given: string;
  readonly text: string;
}

const MAX_QUOTED_CHARS = 100;

function quote(entry: Entry): string {
  if (entry.row.secret) return '***';
  const { text } = entry;
  if (text === '') return 'empty';
  return text.length > MAX_QUOTED_CHARS ? `${text.slice(0, MAX_QUOTED_CHARS)}…` : text;
}

function readPropertiesFile(file: string, shownAs: string, problems: Problems): Property[] {
  try {
    const { size } = statSync(file);
    if (size > MAX_FILE_BYTES) {
      problems.error(`${shownAs}: the file has ${size} bytes, at most ${MAX_FILE_BYTES} are read`);
      return [];
    }
    return parseProperties(readFileSync(file, 'utf8'));
  } catch (error) {
    const at = error instanceof PropertiesSyntaxError ? `${shownAs}:${error.line}` : shownAs;
    problems.error(`${at}: ${(error as Error).message}`);
    return [];
  }
}

/**
 * @param file absolute path of a file that exists
 * @param place whose file it is: server-wide, or one model's, where server-wide keys have no meaning
 * @param cwd messages show the file's path from here
 */
export function fileLayer(file: string, place: 'server' | 'model', cwd: string, problems: Problems): Layer {
  const relative = path.relative(cwd, file);
  const shownAs = relative.startsWith('..') ? file : relative;
  const entries: Entry[] = [];
  const seen = new Map<string, number>();
  for (const { key, value, line } of readPropertiesFile(file, shownAs, problems)) {
    const where = `${shownAs}:${line}`;
    const row = findKey(key);
    if (!row) {
      const nearest = nearestKey(key);
      const question = nearest ? `; did you mean ${nearest}?` : '';
      // LMI passes an option that it does not know on to its engine, so files of its users hold many.
      if (isOption(key) && misspeltOption(key) === null) {
        problems.warn(`${where}: ${key} is not known here and has no effect${question}`);
        continue;
      }
      problems.error(`${where}: ${key} is not a known key${question}`);
    } else if (place === 'model' && row.scope === 'server') {
      problems.error(
        `${where}: ${key} is a key of the whole server; it belongs in the root's serving.properties`,
      );
    } else {
      const earlier = seen.get(key);
      if (earlier !== undefined) {
        problems.warn(`${where}: ${key} was already given on line ${earlier}; the last one counts`);
      }
      seen.set(key, line);
      entries.push({ row, given: key, text: value, where, baseFolder: path.dirname(file) });
    }
  }
  return entries;
}

/** Variables in no row are other programs' business; one that starts like ours is warned of. */
export function environmentLayer(
  env: Readonly<Record<string, string | undefined>>,
  cwd: string,
  problems: Problems,
): Layer {
  const found: { entry: Entry; rank: number }[] = [];
  for (const [name, text] of Object.entries(env)) {
    if (text === undefined || text === '') continue;
    const matches = findEnvironment(name);
    for (const { row, rank } of matches) {
      found.push({ entry: { row, given: name, text, where: 'environment', baseFolder: cwd }, rank });
    }
    if (matches.length === 0 && looksLikeOurs(name)) {
      const nearest = nearestEnvironment(name);
      problems.warn(`environment: ${name} is not known here${nearest ? `; did you mean ${nearest}?` : ''}`);
    }
  }
  // The last entry of a row wins, so the name of rank 0 comes last.
  return found.sort((a, b) => b.rank - a.rank).map(({ entry }) => entry);
}

/** A layer of keys that are known to be in the table: flags, arguments of a registration. */
export function argumentLayer(
  values: Readonly<Record<string, string | null>>,
  where: string,
  baseFolder: string,
): Layer {
  return Object.entries(values).flatMap(([key, text]) => {
    const row = findKey(key);
    return row && text !== null ? [{ row, given: key, text, where, baseFolder }] : [];
  });
}

/** `unless` of a refused row: whole words whatever their case, or a prefix that ends in `*`. */
export function isAccepted(text: string, unless: readonly string[]): boolean {
  const word = text.toLowerCase();
  return unless.some((accepted) => {
    const lower = accepted.toLowerCase();
    return accepted.length > 1 && accepted.endsWith('*')
      ? word.startsWith(lower.slice(0, -1))
      : word === lower;
  });
}

/** The setting that an entry makes, or null when it makes none (a warning or an error was noted). */
function applyEntry(entry: Entry, problems: Problems): { field: string; setting: Setting } | null {
  const { row, where, given, text } = entry;
  const source = `${where}: ${given}`;
  if (row.status.kind === 'elsewhere') return null;
  if (row.status.kind === 'noEffect') {
    problems.warn(`${source} has no effect here: ${row.status.reason}`);
    return null;
  }
  if (row.status.kind === 'refused') {
    if (!isAccepted(text, row.status.unless)) {
      problems.error(`${source}=${quote(entry)}: ${row.status.because}`);
    }
    return null;
  }
  const target = targetOf(row);
  if (target.status.kind !== 'works') return null;
  const { field } = target.status;
  const type = (row.status.kind === 'mapped' ? row.status.type : undefined) ?? target.status.type;
  // An environment variable's own name says little about the key it sets.
  const name = given === target.name ? given : `${given} (${target.name})`;
  const outcome = type.parse(text, entry.baseFolder);
  if ('problem' in outcome) {
    const sentence = outcome.sentence ? `: ${outcome.sentence}` : `; it must be ${type.expects}`;
    problems.error(`${where}: ${name} is ${quote(entry)}${sentence}`);
    return null;
  }
  if (outcome.warning) problems.warn(`${where}: ${name} is ${quote(entry)}: ${outcome.warning}`);
  return { field, setting: { value: outcome.value, where, given, text } };
}

/** Keys without a device, and what a weaker layer may have said for a device: within one layer the device wins, not across layers. */
const OVERRULES: Readonly<Record<string, readonly string[]>> = {
  minWorkers: ['cpuMinWorkers', 'gpuMinWorkers'],
  maxWorkers: ['cpuMaxWorkers', 'gpuMaxWorkers'],
};

/**
 * Folds layers into settings by field. In one layer another name of a key is weaker than the key itself.
 *
 * @param scope rows of the other scope are left alone
 */
export function applyLayers(
  layers: readonly Layer[],
  scope: 'server' | 'model',
  problems: Problems,
): Map<string, Setting> {
  const settings = new Map<string, Setting>();
  for (const layer of layers) {
    const ours = layer.filter(({ row }) => (row.scope === 'model') === (scope === 'model'));
    const mapped = ours.filter(({ row }) => row.status.kind === 'mapped');
    const direct = ours.filter(({ row }) => row.status.kind !== 'mapped');
    const applied = [...mapped, ...direct].flatMap((entry) => applyEntry(entry, problems) ?? []);
    for (const { field } of applied) for (const weaker of OVERRULES[field] ?? []) settings.delete(weaker);
    for (const { field, setting } of applied) settings.set(field, setting);
  }
  return settings;
}
