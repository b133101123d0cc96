/**
 * Who may do what: keys with scopes, and what needs no key.
 *
 * In      the keys of the configuration and of key_file, and those of another source; what a request shows
 * Out     the key that a request has, or none; whether a scope is open to it
 * Limits  MAX_SECRET_CHARACTERS of a key
 * Errors  UNAUTHENTICATED (no key, or none of ours), FORBIDDEN (a key without the scope)
 *
 * A key is found by comparing its digest with every digest, each in constant time: how long it takes says nothing of how near it
 * came. Without any key and without anonymous_scopes all is open, which http-server allows on the loopback address alone.
 */
import { timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { ServingError } from '../../proto/errors.js';
import { type AccessKey, digestOf, NO_LIMITS, SCOPES, type Scope } from './access-key.js';
import { KeyFile } from './key-file.js';
import { RequestLimits } from './request-limits.js';

const MAX_SECRET_CHARACTERS = 512;

export interface AccessOptions {
  apiKey: string | null;
  managementKey: string | null;
  keyFile: string | null;
  /** null: all while there is no key, none otherwise. */
  anonymousScopes: readonly string[] | null;
  /** Those of every key that has none of its own, and of all requests without one; absent or 0: none. */
  keyRequestsPerMinute?: number;
  keyTokensPerMinute?: number;
  keyConcurrentRequests?: number;
}

/** Keys that come and go while the server runs. */
export interface KeySource {
  keys(): readonly AccessKey[];
}

/** A way to show a key; a dialect may add its own. */
export type CredentialReader = (headers: IncomingHttpHeaders) => string | null;

const bearer: CredentialReader = ({ authorization }) =>
  /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1] ?? null;
/** As Anthropic's clients send it. */
const apiKeyHeader: CredentialReader = ({ 'x-api-key': given }) =>
  typeof given === 'string' && given !== '' ? given : null;

export class AccessControl {
  /** How much each may ask. */
  readonly limits: RequestLimits;
  readonly #fixed: readonly AccessKey[];
  readonly #sources: readonly KeySource[];
  readonly #anonymous: readonly string[] | null;
  readonly #readers: readonly CredentialReader[];

  /** @throws ServingError CONFIG_INVALID: the file of keys */
  constructor(
    options: AccessOptions,
    onProblem: (sentence: string) => void,
    readers: readonly CredentialReader[] = [bearer, apiKeyHeader],
    more: readonly KeySource[] = [],
  ) {
    const { anonymousScopes, apiKey, keyFile, managementKey } = options;
    const fixed = (name: string, secret: string | null, scopes: readonly Scope[]): AccessKey[] =>
      secret === null ? [] : [{ name, digest: digestOf(secret), scopes, priority: null }];
    this.#fixed = [...fixed('management_key', managementKey, SCOPES), ...fixed('api_key', apiKey, ['infer'])];
    this.#sources = [...(keyFile === null ? [] : [new KeyFile(keyFile, onProblem)]), ...more];
    this.#anonymous = anonymousScopes;
    this.#readers = readers;
    const {
      keyConcurrentRequests: concurrentRequests,
      keyRequestsPerMinute: requestsPerMinute,
      keyTokensPerMinute: tokensPerMinute,
    } = options;
    this.limits = new RequestLimits({
      ...NO_LIMITS,
      ...(requestsPerMinute && { requestsPerMinute }),
      ...(tokensPerMinute && { tokensPerMinute }),
      ...(concurrentRequests && { concurrentRequests }),
    });
  }

  /** Scopes that need no key. */
  get anonymousScopes(): readonly Scope[] {
    const isOpen = this.#anonymous === null && this.#fixed.length === 0 && this.#sources.length === 0;
    return SCOPES.filter((scope) => isOpen || this.#anonymous?.includes(scope));
  }

  /**
   * The key that a request shows; null: it shows none.
   *
   * @throws ServingError UNAUTHENTICATED: it shows one that is none of ours, where keys are asked for
   */
  keyOf(headers: IncomingHttpHeaders): AccessKey | null {
    const keys = [...this.#fixed, ...this.#sources.flatMap((source) => source.keys())];
    // An open server is sent whatever a client's library wants to have as a key.
    if (keys.length === 0 && this.#sources.length === 0) return null;
    const given = this.#readers.map((read) => read(headers)).find((secret) => secret !== null) ?? null;
    if (given === null) return null;
    const digest = digestOf(given.slice(0, MAX_SECRET_CHARACTERS + 1));
    let found: AccessKey | null = null;
    for (const key of keys) if (timingSafeEqual(key.digest, digest)) found ??= key;
    if (found === null) throw new ServingError('UNAUTHENTICATED', 'The key is not known to this server');
    return found;
  }

  /**
   * @param scopes one of which is enough; null: of no known route, any will do
   * @throws ServingError UNAUTHENTICATED, FORBIDDEN
   */
  demand(key: AccessKey | null, scopes: readonly Scope[] | null): void {
    const wanted = scopes ?? SCOPES;
    if (wanted.some((scope) => this.anonymousScopes.includes(scope) || key?.scopes.includes(scope))) return;
    if (key === null) {
      throw new ServingError(
        'UNAUTHENTICATED',
        'This needs a key: send it as "Authorization: Bearer KEY" or "x-api-key: KEY"',
      );
    }
    throw new ServingError(
      'FORBIDDEN',
      `The key ${key.name} lacks the scope ${wanted.join(' or ')}; it has ${key.scopes.join(', ')}`,
    );
  }
}
