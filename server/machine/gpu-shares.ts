/**
 * GPUs dealt out to worker groups: a rank one, a group side by side, no GPU to two groups at once.
 *
 * In      how many GPUs are visible; degree of a group; those that its model may have (load_on_devices)
 * Out     numbers of GPUs, lowest first; they are given back when the group is gone
 * Errors  OUT_OF_MEMORY: all are taken; CONFIG_INVALID: more asked for than there are, or one that there is not. The message names both counts
 * Source  DJLServing: a model has GPUs / tensor_parallel_degree workers
 */
import { ServingError } from '../../proto/errors.js';

export class GpuShares {
  readonly #count: number;
  readonly #taken = new Set<number>();

  constructor(count: number) {
    this.#count = count;
  }

  get free(): number {
    return this.#count - this.#taken.size;
  }

  /** Groups of that degree that find room where nothing is taken. @throws ServingError CONFIG_INVALID */
  groups(degree: number, allowed: readonly number[] | null): number {
    const devices = this.#devices(allowed);
    if (devices.length < degree) {
      throw new ServingError(
        'CONFIG_INVALID',
        `tensor_parallel_degree ${degree} needs as many GPUs, but ${this.#countOf(devices, allowed)}`,
      );
    }
    return Math.floor(devices.length / degree);
  }

  /**
   * A group's GPUs. Neighbours where the whole row is free, since they are wired closest as a rule.
   *
   * @param allowed null: any
   * @returns how to give them back, too
   * @throws ServingError CONFIG_INVALID, OUT_OF_MEMORY
   */
  take(degree: number, allowed: readonly number[] | null): { devices: number[]; giveBack: () => void } {
    this.groups(degree, allowed);
    const devices = this.#devices(allowed);
    const rows = Array.from({ length: Math.floor(devices.length / degree) }, (_, row) =>
      devices.slice(row * degree, (row + 1) * degree),
    );
    const isFree = (device: number): boolean => !this.#taken.has(device);
    const found = rows.find((row) => row.every(isFree)) ?? devices.filter(isFree).slice(0, degree);
    if (found.length < degree) {
      throw new ServingError(
        'OUT_OF_MEMORY',
        `A worker group needs ${degree} GPUs, but of ${devices.length} that it may have ${found.length} are free`,
      );
    }
    for (const device of found) this.#taken.add(device);
    let given = false;
    const giveBack = (): void => {
      if (given) return;
      given = true;
      for (const device of found) this.#taken.delete(device);
    };
    return { devices: found, giveBack };
  }

  #devices(allowed: readonly number[] | null): number[] {
    const all = Array.from({ length: this.#count }, (_, device) => device);
    if (allowed === null) return all;
    const missing = allowed.filter((device) => !all.includes(device));
    if (missing.length > 0) {
      throw new ServingError(
        'CONFIG_INVALID',
        `load_on_devices names GPU ${missing.join(', ')}, but ${this.#countOf(all, null)}`,
      );
    }
    return [...new Set(allowed)].sort((a, b) => a - b);
  }

  #countOf(devices: readonly number[], allowed: readonly number[] | null): string {
    const verb = devices.length === 1 ? 'is' : 'are';
    return allowed === null
      ? `there ${verb} ${devices.length}`
      : `load_on_devices names ${devices.length} of ${this.#count}`;
  }
}
