/**
 * Worker groups that a machine has devices for.
 *
 * Errors  CONFIG_INVALID: more are asked for; the message names both counts. OUT_OF_MEMORY: other models' groups have them
 */
import { ServingError } from '../../proto/errors.js';
import type { DeviceClaim } from '../engines/engine.js';

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

  /** @throws ServingError OUT_OF_MEMORY: there are no devices for so many more now */
  checkFree(groups: number, claim: () => DeviceClaim | null): void {
    const claims: (DeviceClaim | null)[] = [];
    try {
      for (let group = 0; group < groups; group++) claims.push(claim());
    } finally {
      for (const one of claims) one?.giveBack();
    }
  }

  within(groups: number): number {
    return Math.min(groups, this.#most);
  }
}
