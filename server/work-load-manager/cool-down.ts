/**
 * When what has failed is tried again: after a pause that doubles with every failure, up to MAX_MS.
 *
 * In      failures, recoveries; the first pause (0: never by itself)
 * Out     `act`, called at the end of each pause, or at once by `now`
 * Limits  one attempt at a time is the caller's; a recovery that lasted for MAX_MS makes the next pause the first one again
 * Errors  none
 */
import type { Clock } from '../jobs/clock.js';

const MAX_MS = 10 * 60 * 1000;

export class CoolDown {
  readonly #firstMs: number;
  readonly #clock: Clock;
  readonly #act: () => void;
  #nextMs: number;
  #recoveredAtMs: number | null = null;
  #dueAtMs: number | null = null;
  #cancel: (() => void) | null = null;

  constructor(firstMs: number, clock: Clock, act: () => void) {
    this.#firstMs = firstMs;
    this.#nextMs = firstMs;
    this.#clock = clock;
    this.#act = act;
  }

  /** Milliseconds until the next attempt; null: none is due. */
  get remainingMs(): number | null {
    return this.#dueAtMs === null ? null : Math.max(0, this.#dueAtMs - this.#clock.nowMs());
  }

  failed(): void {
    this.stop();
    if (this.#firstMs === 0) return;
    const nowMs = this.#clock.nowMs();
    if (this.#recoveredAtMs !== null && nowMs - this.#recoveredAtMs >= MAX_MS) this.#nextMs = this.#firstMs;
    this.#recoveredAtMs = null;
    this.#dueAtMs = nowMs + this.#nextMs;
    this.#nextMs = Math.min(2 * this.#nextMs, Math.max(MAX_MS, this.#firstMs));
    this.#cancel = this.#clock.at(this.#dueAtMs, () => this.now());
  }

  recovered(): void {
    this.stop();
    this.#recoveredAtMs = this.#clock.nowMs();
  }

  /** Does not wait for the end of the pause. */
  now(): void {
    this.stop();
    this.#act();
  }

  /** Nothing is tried until the next failure. */
  stop(): void {
    this.#cancel?.();
    this.#cancel = null;
    this.#dueAtMs = null;
  }
}
