/**
 * Worker groups that a machine has devices for.
 *
 * Errors  CONFIG_INVALID: more are asked for; the message names both counts
 * Pure
 */
import { ServingError } from '../../proto/errors.js';

export class DeviceBound {
  readonly #id: string;
  readonly #worldSize: number;
  readonly #most: number;

  /** @param most absent: no bound */
  constructor(id: string, worldSize: number, most = Number.POSITIVE_INFINITY) {
    this.#id = id;
    this.#worldSize = worldSize;
    this.#most = most;
  }

  /** @throws ServingError CONFIG_INVALID */
  check(groups: number): void {
    if (groups <= this.#most) return;
    const gpus = `${this.#worldSize} GPU${this.#worldSize === 1 ? '' : 's'}`;
    throw new ServingError(
      'CONFIG_INVALID',
      `${this.#id} is to have ${groups} worker groups of ${gpus}, but there are GPUs for ${this.#most}`,
    );
  }

  within(groups: number): number {
    return Math.min(groups, this.#most);
  }
}
