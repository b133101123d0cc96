/**
 * Whether a reader that is slow is so slow that it is there to hold a place: one that takes 16 KB every two minutes never stops.
 *
 * In      bytes that are given to it; times in which the server waited for it
 * Out     `isTooSlow`: it was waited for longer than the limit in all, and took less than MIN_BYTES_PER_SECOND of that time
 * Pure    no clock
 */
import { MIN_BYTES_PER_SECOND } from '../../requests/unread-bytes.js';

export class ReadPace {
  readonly #limitMs: number;
  #bytes = 0;
  #waitedMs = 0;

  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  given(bytes: number): void {
    this.#bytes += bytes;
  }

  waited(ms: number): void {
    this.#waitedMs += ms;
  }

  get isTooSlow(): boolean {
    return this.#waitedMs > this.#limitMs && this.#bytes < (this.#waitedMs / 1000) * MIN_BYTES_PER_SECOND;
  }
}
