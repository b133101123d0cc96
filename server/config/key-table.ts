/**
 * THE table of keys: every name that a properties file or the environment may hold, and what becomes of it.
 *
 * Three parts: server-keys.ts (server-wide), model-keys.ts (of a model, working), foreign-keys.ts (of a model, known elsewhere
 * and without effect here, or refused). KEYS.md is made from it (keys-markdown.ts).
 */
import assert from 'node:assert';
import { FOREIGN_KEYS } from './foreign-keys.js';
import type { KeyRow, KeyStatus } from './key-row.js';
import { MODEL_KEYS } from './model-keys.js';
import { nearestName } from './nearest-name.js';
import { SERVER_KEYS } from './server-keys.js';

export const KEY_TABLE: readonly KeyRow[] = [...SERVER_KEYS, ...MODEL_KEYS, ...FOREIGN_KEYS];

export type WorkingStatus = Extract<KeyStatus, { kind: 'works' }>;

/** Environment names that start so belong to us or to DJLServing; an unknown one among them is probably mistyped. */
const OWN_PREFIXES = ['OPTION_', 'SERVING_'];
const ARGUMENT_PREFIX = 'ARGS_';

const byName = new Map<string, KeyRow>();
/** Environment name → its rows, and how early the name stands in each (0 wins). */
const byEnvironment = new Map<string, { row: KeyRow; rank: number }[]>();
/** One name for two keys, as in DJLServing; every other name has one row. */
const OF_TWO_KEYS = ['SAGEMAKER_NUM_MODEL_WORKERS'];

for (const row of KEY_TABLE) {
  assert(!byName.has(row.name), `two rows for the key ${row.name}`);
  byName.set(row.name, row);
  row.env.forEach((name, rank) => {
    const others = byEnvironment.get(name) ?? [];
    assert(
      others.length === 0 || OF_TWO_KEYS.includes(name),
      `two rows for the environment variable ${name}`,
    );
    byEnvironment.set(name, [...others, { row, rank }]);
  });
}

/** The row of a key in a properties file. */
export function findKey(name: string): KeyRow | null {
  const row = byName.get(name);
  return row && row.scope !== 'environment' ? row : null;
}

/** The rows that an environment variable sets, and its rank among the names of each. */
export function findEnvironment(name: string): readonly { row: KeyRow; rank: number }[] {
  const found = byEnvironment.get(name);
  if (found) return found;
  if (!name.startsWith(ARGUMENT_PREFIX)) return [];
  const row = byName.get('ARGS_<NAME>');
  return row ? [{ row, rank: 0 }] : [];
}

/** Whether an environment variable in no row is worth a warning. */
export function looksLikeOurs(name: string): boolean {
  return OWN_PREFIXES.some((prefix) => name.startsWith(prefix));
}

/** The row that a mapped row stands for; any other row is its own target. */
export function targetOf(row: KeyRow): KeyRow {
  if (row.status.kind !== 'mapped') return row;
  const target = byName.get(row.status.to);
  assert(target?.status.kind === 'works', `${row.name} is mapped to ${row.status.to}, which does not work`);
  return target;
}

const FILE_KEYS = KEY_TABLE.filter((row) => row.scope !== 'environment').map((row) => row.name);
const OPTION_PREFIX = 'option.';
const OPTIONS = FILE_KEYS.flatMap((name) =>
  name.startsWith(OPTION_PREFIX) ? [name.slice(OPTION_PREFIX.length)] : [],
);

/** The known key of a file that a mistyped one most likely meant. */
export function nearestKey(name: string): string | null {
  if (name.startsWith(OPTION_PREFIX)) return nearestOption(name.slice(OPTION_PREFIX.length));
  // Who forgets the prefix means the option.
  return byName.has(`option.${name}`) ? `option.${name}` : nearestName(name, FILE_KEYS);
}

/** Who writes the prefix before a model's key that has none means the key. @param furthest letters that may differ */
function nearestOption(bare: string, furthest?: number): string | null {
  if (findKey(bare)?.scope === 'model') return bare;
  const nearest = nearestName(bare, OPTIONS, furthest);
  return nearest === null ? null : `${OPTION_PREFIX}${nearest}`;
}

/**
 * The key that an unknown option must have meant, a slip of the keys away: a letter, two of a long name. Engines that LMI passes options on
 * to have hundreds, many of them as near to one of ours as max_input_len is to max_model_len; a third of a name would make slips of those.
 */
export function misspeltOption(name: string): string | null {
  const bare = name.slice(OPTION_PREFIX.length);
  return nearestOption(bare, Math.max(1, Math.floor(bare.length / 6)));
}

export const isOption = (name: string): boolean => name.startsWith(OPTION_PREFIX);

/** The known environment variable that a mistyped one most likely meant. */
export function nearestEnvironment(name: string): string | null {
  return nearestName(name, byEnvironment.keys());
}

/** Flags of vLLM and TGI whose options have other names here. */
const FLAG_OPTIONS: Readonly<Record<string, string>> = {
  tensor_parallel_size: 'tensor_parallel_degree',
  num_shard: 'tensor_parallel_degree',
  max_total_tokens: 'max_model_len',
};

/** The environment variable of the key that a flag must have meant: other servers have a flag for each (`--max-model-len`, `--api-key`). */
export function environmentOfFlag(flag: string): string | null {
  const name = flag.replaceAll('-', '_');
  const row = byName.get(`${OPTION_PREFIX}${FLAG_OPTIONS[name] ?? name}`) ?? byName.get(name);
  if (row === undefined) return null;
  const { env, status } = targetOf(row);
  return status.kind === 'works' ? (env[0] ?? null) : null;
}

/** Field → default, of all working rows of one scope. */
export function defaultsOf(scope: 'server' | 'model'): Record<string, unknown> {
  const defaults: Record<string, unknown> = {};
  for (const { status, scope: rowScope } of KEY_TABLE) {
    if (rowScope === scope && status.kind === 'works') defaults[status.field] = status.defaultValue;
  }
  return defaults;
}
