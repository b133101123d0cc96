/**
 * Random numbers from a seed: the same load, search and resampling again.
 *
 * In      a seed of 32 bits; names split it into streams of their own, so that one more draw here moves nothing there
 * Out     uniform, exponential, normal, whole numbers, choices
 * Source  sfc32 (PractRand), seeded by FNV-1a of the names
 */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #d = 1;
  #spare: number | null = null;

  constructor(seed: number, ...names: readonly (string | number)[]) {
    let hash = 0x811c9dc5 ^ seed;
    for (const character of `${seed}/${names.join('/')}`) {
      hash = Math.imul(hash ^ character.codePointAt(0)!, 0x01000193);
    }
    this.#a = seed | 0;
    this.#b = hash;
    this.#c = Math.imul(hash, 0x9e3779b1);
    for (let round = 0; round < 15; round++) this.#next();
  }

  #next(): number {
    const sum = (this.#a + this.#b + this.#d) | 0;
    this.#d = (this.#d + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (this.#c << 21) | (this.#c >>> 11);
    this.#c = (this.#c + sum) | 0;
    return sum >>> 0;
  }

  /** 0 ≤ … < 1, 32 bits of it. */
  uniform(): number {
    return this.#next() / 2 ** 32;
  }

  /** 0 … below − 1. */
  whole(below: number): number {
    return Math.floor(this.uniform() * below);
  }

  /** A number of mean 1. */
  exponential(): number {
    return -Math.log1p(-this.uniform());
  }

  /** A number of mean 0 and deviation 1 (Box and Muller). */
  normal(): number {
    if (this.#spare !== null) {
      const spare = this.#spare;
      this.#spare = null;
      return spare;
    }
    const radius = Math.sqrt(2 * this.exponential());
    const angle = 2 * Math.PI * this.uniform();
    this.#spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  choice<T>(values: readonly T[]): T {
    return values[this.whole(values.length)]!;
  }
}
