/**
 * Lets one loop sleep until something has changed: no polling, and no change between two sleeps is lost.
 *
 * In      notify, from anywhere
 * Out     wait: resolves at the first notify since the last wait, or at a point of time
 */
import type { Clock } from './clock.js';

export class WakeUp {
  readonly #clock: Clock;
  #changed = false;
  #wake: (() => void) | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  notify(): void {
    this.#changed = true;
    this.#wake?.();
  }

  /** @param untilMs point of time of the clock; null: only by notify */
  async wait(untilMs: number | null): Promise<void> {
    if (!this.#changed) {
      let cancelTimer: (() => void) | null = null;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        if (untilMs !== null) cancelTimer = this.#clock.at(untilMs, resolve);
      });
      (cancelTimer as (() => void) | null)?.();
      this.#wake = null;
    }
    this.#changed = false;
  }
}
