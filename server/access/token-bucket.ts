/**
 * A bucket of tokens: so many a minute, and no more than a minute's at once.
 *
 * In      what a minute allows; the time
 * Out     how long until there is one again; what is left
 * Limits  a debt (`charge` beyond what is left) is bounded by MAX_DEBT_MINUTES, so that one long answer locks nobody out for an hour
 * Pure    the clock is an argument
 */
const MINUTE_MS = 60_000;
const MAX_DEBT_MINUTES = 5;

export class TokenBucket {
  readonly perMinute: number;
  #left: number;
  #atMs: number;

  constructor(perMinute: number, nowMs: number) {
    this.perMinute = perMinute;
    this.#left = perMinute;
    this.#atMs = nowMs;
  }

  /** Milliseconds until `wanted` are there; 0: they are. */
  waitMs(wanted: number, nowMs: number): number {
    this.#fill(nowMs);
    const missing = wanted - this.#left;
    return missing <= 0 ? 0 : Math.ceil((missing * MINUTE_MS) / this.perMinute);
  }

  /** Takes what was used, also more than is left. */
  charge(count: number, nowMs: number): void {
    this.#fill(nowMs);
    this.#left = Math.max(this.#left - count, -MAX_DEBT_MINUTES * this.perMinute);
  }

  /** Whole tokens, none where there is a debt. */
  left(nowMs: number): number {
    this.#fill(nowMs);
    return Math.max(0, Math.floor(this.#left));
  }

  #fill(nowMs: number): void {
    const since = Math.max(0, nowMs - this.#atMs);
    this.#left = Math.min(this.perMinute, this.#left + (since * this.perMinute) / MINUTE_MS);
    this.#atMs = nowMs;
  }
}
