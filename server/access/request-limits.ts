/**
 * How much a key may ask: requests and tokens a minute, requests at once. What comes without a key is one more key.
 *
 * In      the limits of a key (key_file), or the server's for every key (key_*); requests as they begin and end; tokens as they are used
 * Out     a request may begin, or when it may
 * Limits  one entry a key that has asked; entries of keys that are no more go when there are MAX_KEPT
 * Errors  RATE_LIMITED with Retry-After: the message names the limit
 *
 * Tokens are known when they have been used: a key may begin while it has one left, and what it used beyond is a debt that time pays.
 */
import { ServingError } from '../../proto/errors.js';
import { type AccessKey, idOf, type KeyLimits } from './access-key.js';
import { TokenBucket } from './token-bucket.js';

const MAX_KEPT = 2000;
/** Requests end when they end: this is how soon another try makes sense. */
const CONCURRENT_RETRY_SECONDS = 1;
const NO_KEY = '';

interface Account {
  limits: KeyLimits;
  requests: TokenBucket | null;
  tokens: TokenBucket | null;
  /** Responses that have not ended. */
  running: number;
  /** Requests that go on behind their responses. */
  behind: number;
}

/** What is left to a key; null where there is no limit. */
export interface Allowance {
  requests: { limit: number; left: number } | null;
  tokens: { limit: number; left: number } | null;
}

export class RequestLimits {
  readonly #defaults: KeyLimits;
  readonly #nowMs: () => number;
  readonly #accounts = new Map<string, Account>();

  constructor(defaults: KeyLimits, nowMs: () => number = () => performance.now()) {
    this.#defaults = defaults;
    this.#nowMs = nowMs;
  }

  /**
   * A request begins.
   *
   * @param isPoll it asks for what another one has begun: that one is not counted beside it
   * @returns to be called once when it has ended
   * @throws ServingError RATE_LIMITED
   */
  begin(key: AccessKey | null, isPoll = false): () => void {
    const account = this.#accountOf(key);
    const { limits, requests, tokens } = account;
    const nowMs = this.#nowMs();
    const atOnce = account.running + (isPoll ? 0 : account.behind);
    const name = key === null ? 'Requests without a key' : `The key ${key.name}`;
    if (limits.concurrentRequests !== null && atOnce >= limits.concurrentRequests)
      throw refusal(`${name} may run ${limits.concurrentRequests} at once`, CONCURRENT_RETRY_SECONDS * 1000);
    const waitMs = requests?.waitMs(1, nowMs) ?? 0;
    if (waitMs > 0) throw refusal(`${name} may send ${limits.requestsPerMinute} requests a minute`, waitMs);
    const owedMs = tokens?.waitMs(1, nowMs) ?? 0;
    if (owedMs > 0) throw refusal(`${name} may use ${limits.tokensPerMinute} tokens a minute`, owedMs);
    requests?.charge(1, nowMs);
    return counted(account, 'running');
  }

  /**
   * A request that has begun goes on behind its response, as an asynchronous one does: it is one of those at once.
   *
   * @returns to be called when it has ended
   */
  goOn(key: AccessKey | null): () => void {
    return counted(this.#accountOf(key), 'behind');
  }

  /** Whether anybody wants to know of the tokens of this key, by its id. */
  countsTokens(id: string | undefined): boolean {
    return this.#accounts.get(id ?? NO_KEY)?.tokens != null;
  }

  /** Tokens of prompts and answers. */
  charge(id: string | undefined, tokens: number): void {
    this.#accounts.get(id ?? NO_KEY)?.tokens?.charge(tokens, this.#nowMs());
  }

  allowance(key: AccessKey | null): Allowance {
    const { requests, tokens } = this.#accountOf(key);
    const nowMs = this.#nowMs();
    const told = (bucket: TokenBucket | null) =>
      bucket === null ? null : { limit: bucket.perMinute, left: bucket.left(nowMs) };
    return { requests: told(requests), tokens: told(tokens) };
  }

  #accountOf(key: AccessKey | null): Account {
    const id = key === null ? NO_KEY : idOf(key);
    const limits = { ...this.#defaults, ...key?.limits };
    const known = this.#accounts.get(id);
    if (known !== undefined && isSame(known.limits, limits)) return known;
    const nowMs = this.#nowMs();
    const bucket = (perMinute: number | null) =>
      perMinute === null ? null : new TokenBucket(perMinute, nowMs);
    const account: Account = {
      limits,
      requests: bucket(limits.requestsPerMinute),
      tokens: bucket(limits.tokensPerMinute),
      running: 0,
      behind: 0,
    };
    // A key's limits may have changed: what runs is told to the account that it began with.
    this.#accounts.set(id, account);
    if (this.#accounts.size > MAX_KEPT) this.#forgetIdle(id);
    return account;
  }

  /** What one has used up, or owes, is not forgiven. */
  #forgetIdle(but: string): void {
    const nowMs = this.#nowMs();
    const isFull = (bucket: TokenBucket | null): boolean =>
      bucket === null || bucket.left(nowMs) >= Math.floor(bucket.perMinute);
    for (const [id, { behind, requests, running, tokens }] of this.#accounts)
      if (running + behind === 0 && id !== but && isFull(requests) && isFull(tokens))
        this.#accounts.delete(id);
  }
}

/** @returns to be called once or oftener when it has ended */
function counted(account: Account, how: 'running' | 'behind'): () => void {
  account[how] += 1;
  let hasEnded = false;
  return () => {
    if (hasEnded) return;
    hasEnded = true;
    account[how] -= 1;
  };
}

const isSame = (a: KeyLimits, b: KeyLimits): boolean =>
  a.requestsPerMinute === b.requestsPerMinute &&
  a.tokensPerMinute === b.tokensPerMinute &&
  a.concurrentRequests === b.concurrentRequests;

function refusal(sentence: string, waitMs: number): ServingError {
  const seconds = Math.max(1, Math.ceil(waitMs / 1000));
  return new ServingError('RATE_LIMITED', `${sentence}; try again in ${seconds} s`, {
    retryAfterSeconds: seconds,
  });
}
