/**
 * How many models that requests register are fetched, split and loaded at once: each costs processes, memory and the disk.
 *
 * In      loads
 * Out     each runs in its turn, in the order in which they came
 * Limits  `atOnce` run; MAX_WAITING wait
 * Errors  QUEUE_FULL: too many wait
 */
import { ServingError } from '../../proto/errors.js';

const MAX_WAITING = 100;

export class LoadingGate {
  readonly #atOnce: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(atOnce: number) {
    this.#atOnce = atOnce;
  }

  /** @throws ServingError QUEUE_FULL */
  checkRoom(): void {
    if (this.#waiting.length < MAX_WAITING) return;
    throw new ServingError(
      'QUEUE_FULL',
      `${this.#running} models are being loaded and ${this.#waiting.length} wait for it, the limit is ${this.#atOnce} and ${MAX_WAITING}`,
      { retryAfterSeconds: 60 },
    );
  }

  /** @throws as `load` */
  async run(load: () => Promise<void>): Promise<void> {
    if (this.#running >= this.#atOnce) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running++;
    try {
      await load();
    } finally {
      // Whose turn it is takes the place as it is.
      const next = this.#waiting.shift();
      if (next) next();
      else this.#running--;
    }
  }
}
