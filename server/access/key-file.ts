/**
 * The file of keys: {"keys": [{"name", "sha256", "scopes", "priority"?, "limits"?, "weight"?}]}.
 *
 * In      a path; nobody but its owner may read or write it (0600), who is this process's user or root
 * Out     its keys, read again when the file has changed
 * Limits  MAX_FILE_BYTES, MAX_KEYS, names of 1 … 64 letters, digits, _, . and -
 * Errors  CONFIG_INVALID at the first reading; later a file that is gone or wrong is told to `onProblem` once a change, and the
 *         keys of before stay: a slip of an editor locks nobody out
 */
import { closeSync, fstatSync, openSync, readFileSync, statSync } from 'node:fs';
import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { ServingError } from '../../proto/errors.js';
import { type AccessKey, type KeyLimits, SCOPES } from './access-key.js';

const MAX_FILE_BYTES = 1024 * 1024;
const MAX_KEYS = 1000;
const OTHERS_BITS = 0o077;
const MAX_LIMIT = 1_000_000_000;

const limit = Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_LIMIT }));

const KeyFileSchema = Type.Object(
  {
    keys: Type.Array(
      Type.Object(
        {
          name: Type.String({ pattern: '^[\\w.-]{1,64}$' }),
          sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
          scopes: Type.Array(Type.Union(SCOPES.map((scope) => Type.Literal(scope))), { minItems: 1 }),
          priority: Type.Optional(Type.Tuple([Type.Integer(), Type.Integer()])),
          limits: Type.Optional(
            Type.Object(
              { requests_per_minute: limit, tokens_per_minute: limit, concurrent_requests: limit },
              { additionalProperties: false },
            ),
          ),
          weight: Type.Optional(Type.Number({ minimum: 0.01, maximum: 100 })),
        },
        { additionalProperties: false },
      ),
      { maxItems: MAX_KEYS },
    ),
  },
  { additionalProperties: false },
);

export class KeyFile {
  readonly #path: string;
  readonly #onProblem: (sentence: string) => void;
  #version: string;
  #keys: readonly AccessKey[];

  /** @throws ServingError CONFIG_INVALID */
  constructor(path: string, onProblem: (sentence: string) => void) {
    this.#path = path;
    this.#onProblem = onProblem;
    this.#version = versionOf(path);
    this.#keys = read(path);
  }

  keys(): readonly AccessKey[] {
    const version = versionOf(this.#path);
    if (version === this.#version) return this.#keys;
    this.#version = version;
    try {
      this.#keys = read(this.#path);
    } catch (error) {
      this.#onProblem(`${(error as Error).message}; the keys of before stay`);
    }
    return this.#keys;
  }
}

/** Changes with the file, also where another takes its place. */
function versionOf(path: string): string {
  try {
    const stat = statSync(path, { bigint: true });
    return `${stat.ino} ${stat.size} ${stat.mtimeNs} ${stat.ctimeNs}`;
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}

/** @throws ServingError CONFIG_INVALID; no message holds a byte of the file */
function read(path: string): AccessKey[] {
  const refuse = (reason: string): never => {
    throw new ServingError('CONFIG_INVALID', `key_file: ${path} ${reason}`);
  };
  let text = '';
  try {
    const fd = openSync(path, 'r');
    try {
      const stat = fstatSync(fd);
      if (!stat.isFile()) refuse('is not a file');
      if ((stat.mode & OTHERS_BITS) !== 0)
        refuse(`may be read or written by others (mode ${(stat.mode & 0o777).toString(8)}): chmod 600 it`);
      if (stat.uid !== 0 && stat.uid !== process.getuid?.()) refuse(`belongs to another user (${stat.uid})`);
      if (stat.size > MAX_FILE_BYTES) refuse(`has ${stat.size} bytes, at most ${MAX_FILE_BYTES} are read`);
      text = readFileSync(fd, 'utf8');
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (error instanceof ServingError) throw error;
    refuse(`cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
  let given: unknown;
  try {
    given = JSON.parse(text);
  } catch {
    refuse('is not JSON');
  }
  const first = Value.Errors(KeyFileSchema, given).First();
  if (first !== undefined)
    refuse(
      `is no file of keys, at ${first.path || '/'}: {"keys": [{"name", "sha256", "scopes", "priority"?, "limits"?, "weight"?}]}`,
    );
  const names = new Set<string>();
  return (given as Static<typeof KeyFileSchema>).keys.map(
    ({ limits, name, priority, scopes, sha256, weight }) => {
      if (names.has(name)) refuse(`names two keys ${name}`);
      names.add(name);
      if (priority !== undefined && priority[0] > priority[1])
        refuse(`gives ${name} a priority from ${priority[0]} to ${priority[1]}`);
      return {
        name,
        digest: Buffer.from(sha256, 'hex'),
        scopes,
        priority: priority === undefined ? null : { min: priority[0], max: priority[1] },
        ...(limits !== undefined && { limits: limitsOf(limits) }),
        ...(weight !== undefined && { weight }),
      };
    },
  );
}

type GivenLimits = NonNullable<Static<typeof KeyFileSchema>['keys'][number]['limits']>;

/** What is not named stays the server's. */
function limitsOf({
  concurrent_requests: concurrentRequests,
  requests_per_minute: requestsPerMinute,
  tokens_per_minute: tokensPerMinute,
}: GivenLimits): Partial<KeyLimits> {
  return {
    ...(requestsPerMinute !== undefined && { requestsPerMinute }),
    ...(tokensPerMinute !== undefined && { tokensPerMinute }),
    ...(concurrentRequests !== undefined && { concurrentRequests }),
  };
}
