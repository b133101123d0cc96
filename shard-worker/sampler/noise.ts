/**
 * The random numbers of a choice: Gumbel noise for every token id, a pure function of (seed, position, id).
 *
 * The largest logit/T + noise is a draw from softmax(logits/T) (the Gumbel-max trick). As nothing is counted or carried on,
 * the draw is the same on any rank, in any batch, and after a sequence was resumed; and a rank can draw over its own slice.
 *
 * Noise is −log(−log(1 − e)), e uniform in (0, 1): small e, large noise. e has 64 bits, the upper 32 of which are a hash that
 * costs some 3 ns, so that ids without a chance are passed over by one comparison of integers.
 *
 * Limits  e is held within [2^-40, 1 − 2^-33]: no noise above GUMBEL_MAX (27.7). A true draw leaves this range once in 10^9
 * Source  integer mixing function and constants: "lowbias32", Chris Wellons, Hash Prospector
 */
const MIX_A = 0x7feb352d;
const MIX_B = 0x846ca68b;
const TWO_32 = 2 ** 32;
const E_MIN = 2 ** -40;
const E_MAX = 1 - 2 ** -33;

/** No noise is larger. */
export const GUMBEL_MAX = -Math.log(-Math.log1p(-E_MIN));

function mix(value: number): number {
  let x = value | 0;
  x = Math.imul(x ^ (x >>> 16), MIX_A);
  x = Math.imul(x ^ (x >>> 15), MIX_B);
  return x ^ (x >>> 16);
}

export class GumbelNoise {
  #key = 0;
  #secondKey = 0;

  /** Fix the seed and the position that the chosen token will have in its sequence (prompt included). */
  prepare(seedLow: number, seedHigh: number, position: number): void {
    // Two chains with different starts: all 64 bits of the seed count.
    this.#key = mix(mix(mix(seedLow ^ 0x3c6ef372) + seedHigh) ^ Math.imul(position, 0x9e3779b1));
    this.#secondKey = mix(mix(mix(seedHigh ^ 0x1b873593) + seedLow) ^ Math.imul(position, 0x85ebca6b));
  }

  /** As unsigned numbers, for whoever makes hashes elsewhere. */
  get keys(): { key: number; secondKey: number } {
    return { key: this.#key >>> 0, secondKey: this.#secondKey >>> 0 };
  }

  /** The upper 32 bits of e. */
  hash(id: number): number {
    let x = id ^ this.#key;
    x = Math.imul(x ^ (x >>> 16), MIX_A);
    x = (x ^ (x >>> 15)) + this.#secondKey;
    x = Math.imul(x, MIX_B);
    x = Math.imul(x ^ (x >>> 16), MIX_A);
    return (x ^ (x >>> 15)) >>> 0;
  }

  /** @param hash what hash(id) gave */
  gumbelOfHash(hash: number, id: number): number {
    const low = mix(mix(id + this.#secondKey) ^ this.#key) >>> 0;
    const e = (hash + (low + 0.5) / TWO_32) / TWO_32;
    return -Math.log(-Math.log1p(-Math.min(Math.max(e, E_MIN), E_MAX)));
  }

  gumbel(id: number): number {
    return this.gumbelOfHash(this.hash(id), id);
  }
}

/** An id with noise above `gap` has a hash of at most this. */
export function hashLimit(gap: number): number {
  // noise > gap  ⇔  e < 1 − exp(−exp(−gap)); one more for the rounding of this formula.
  return -Math.expm1(-Math.exp(-gap)) * TWO_32 + 1;
}
