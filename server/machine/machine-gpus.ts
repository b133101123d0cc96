/**
 * The GPUs of this machine that models are computed on, and who has which.
 *
 * In      what may be used (visible-gpus.ts); how much of a GPU is free now
 * Out     their number for a model, memory, claims
 * Errors  CONFIG_INVALID, OUT_OF_MEMORY: GpuShares
 */
import { GpuShares } from './gpu-shares.js';
import type { Gpu } from './visible-gpus.js';

export interface MachineGpusOptions {
  /** At the start, in the order in which they are numbered. */
  gpus: readonly Gpu[];
  /** The same now, since others use them too; default: as at the start. */
  readAgain?: () => readonly Gpu[];
  /** Folder of CUDA's libraries. */
  cudaFolder: string;
}

export class MachineGpus {
  readonly cudaFolder: string;
  readonly #gpus: readonly Gpu[];
  readonly #readAgain: () => readonly Gpu[];
  readonly #shares: GpuShares;

  constructor({ cudaFolder, gpus, readAgain }: MachineGpusOptions) {
    this.cudaFolder = cudaFolder;
    this.#gpus = gpus;
    this.#readAgain = readAgain ?? (() => gpus);
    this.#shares = new GpuShares(gpus.length);
  }

  /** Those that a model may have. */
  count(allowed: readonly number[] | null): number {
    return allowed === null ? this.#gpus.length : new Set(allowed).size;
  }

  /** Groups of that degree that there are GPUs for. @throws ServingError CONFIG_INVALID */
  groups(degree: number, allowed: readonly number[] | null): number {
    return this.#shares.groups(degree, allowed);
  }

  /** @throws ServingError CONFIG_INVALID, OUT_OF_MEMORY */
  claim(degree: number, allowed: readonly number[] | null): { devices: number[]; giveBack: () => void } {
    return this.#shares.take(degree, allowed);
  }

  /** The fullest GPU's that a model may have: any rank may come there. 0: the driver does not tell. */
  freeBytes(allowed: readonly number[] | null): number {
    const now = this.#readAgain();
    const asked = allowed === null ? now : now.filter((_, number) => allowed.includes(number));
    return Math.min(...asked.map(({ freeBytes }) => freeBytes ?? 0), Number.MAX_SAFE_INTEGER);
  }
}
