/**
 * The passes of one rank over its slice of a row of logits. Free functions on typed arrays: this is the only work of a choice
 * that grows with the vocabulary.
 *
 * One pass finds the maximum of every block of 128 ids, and whether all are finite. The others look at few blocks: the best
 * id lies in the block with the largest maximum; the top k lie in blocks whose maximum reaches the k-th largest maximum; a
 * perturbed logit can win only where the block's maximum plus the noise can.
 *
 * Native  these are what the library of our own kernels does too, to the bit (native-scan.ts), where there is one
 * Order   larger logit first, lower id first among equals: the same at any split of the vocabulary
 */

import { MASKED } from './keep-bits.js';
import { GUMBEL_MAX, type GumbelNoise, hashLimit } from './noise.js';

/** Fewer ids: more mispredicted branches, as each block begins anew. More: fewer blocks can be passed over. */
export const BLOCK_IDS = 128;

export const blockCount = (count: number): number => Math.ceil(count / BLOCK_IDS);

/**
 * Largest logit of each block into blockMax.
 *
 * @returns whether every one of the `count` logits is finite
 */
export function scanBlocks(logits: Float32Array, count: number, blockMax: Float32Array): boolean {
  // A sum is finite only if all its terms are. Two of them, so that an addition need not wait for the one before; two is
  // also what the branches of the maxima can take.
  let evenSum = 0;
  let oddSum = 0;
  for (let block = 0, start = 0; start < count; block++, start += BLOCK_IDS) {
    const end = Math.min(start + BLOCK_IDS, count);
    let max = MASKED;
    let i = start;
    for (; i < end - 1; i += 2) {
      const even = logits[i]!;
      const odd = logits[i + 1]!;
      evenSum += even;
      oddSum += odd;
      if (even > max) max = even;
      if (odd > max) max = odd;
    }
    if (i < end) {
      const last = logits[i]!;
      evenSum += last;
      if (last > max) max = last;
    }
    blockMax[block] = max;
  }
  return Number.isFinite(evenSum + oddSum);
}

/** Position of the largest logit, the lowest among equals; -1 where all are masked. */
export function bestPosition(logits: Float32Array, count: number, blockMax: Float32Array): number {
  const blocks = blockCount(count);
  let best = -1;
  let max = MASKED;
  for (let block = 0; block < blocks; block++) {
    if (blockMax[block]! > max) {
      max = blockMax[block]!;
      best = block;
    }
  }
  if (best < 0) return -1;
  let at = best * BLOCK_IDS;
  while (logits[at] !== max) at++;
  return at;
}

// exp(-x) = 2^-n · e^r with |r| ≤ ln 2 / 2: a table and a polynomial, by operations that every machine rounds alike.
const SMALLEST_EXPONENT = -60;
const POWERS = Float64Array.from({ length: 90 }, (_, n) => 2 ** -n);
const TERMS = [3628800, 362880, 40320, 5040, 720, 120, 24, 6, 2, 1, 1].map((factorial) => 1 / factorial);
/** The sum has so many chains, of ids that are so far apart. */
const CHAINS = 8;
const chains = new Float64Array(CHAINS);

/**
 * Sum of exp((logit − max) / temperature), to some 1e-11 relative. Terms below e^-60 are left out.
 *
 * @param max the largest logit
 */
export function sumOfExponentials(
  logits: Float32Array,
  count: number,
  blockMax: Float32Array,
  max: number,
  temperature: number,
): number {
  const perTemperature = 1 / temperature;
  const [t0, t1, t2, t3, t4, t5, t6, t7] = TERMS as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  chains.fill(0);
  for (let block = 0, start = 0; start < count; block++, start += BLOCK_IDS) {
    if ((blockMax[block]! - max) * perTemperature < SMALLEST_EXPONENT) continue;
    const end = Math.min(start + BLOCK_IDS, count);
    for (let i = start; i < end; i++) {
      const x = (max - logits[i]!) * perTemperature;
      if (!(x < -SMALLEST_EXPONENT)) continue;
      const whole = (x * Math.LOG2E + 0.5) | 0;
      const r = whole * Math.LN2 - x;
      let term = ((((((t0 * r + t1) * r + t2) * r + t3) * r + t4) * r + t5) * r + t6) * r + t7;
      term = ((term * r + 0.5) * r + 1) * r + 1;
      chains[i & (CHAINS - 1)]! += term * POWERS[whole]!;
    }
  }
  const [a, b, c, d, e, f, g, h] = chains as unknown as Chains;
  return a + b + (c + d) + (e + f + (g + h));
}

type Chains = [number, number, number, number, number, number, number, number];

/** Whether a is behind b in the order of candidates. */
const behind = (logitA: number, idA: number, logitB: number, idB: number): boolean =>
  logitA < logitB || (logitA === logitB && idA > idB);

/** The k first candidates of a slice, in order. */
export class TopCandidates {
  readonly ids: Int32Array;
  readonly logits: Float32Array;
  count = 0;

  constructor(capacity: number) {
    this.ids = new Int32Array(capacity);
    this.logits = new Float32Array(capacity);
  }

  /**
   * @param base id of position 0
   * @param blockMax what scanBlocks found
   * @param scratch of the same capacity or more; for the k-th largest block maximum
   */
  select(
    logits: Float32Array,
    count: number,
    base: number,
    blockMax: Float32Array,
    k: number,
    scratch: TopCandidates,
    reach: typeof reaching | null = null,
  ): void {
    const blocks = blockCount(count);
    this.count = 0;
    let floor = MASKED;
    if (blocks > k) {
      // Each of the k blocks with the largest maxima holds a logit that reaches the least of these.
      scratch.count = 0;
      for (let block = 0; block < blocks; block++) scratch.#offer(blockMax[block]!, block, k);
      if (scratch.count === k) floor = scratch.logits[0]!;
    }
    const positions = reach?.(logits, count, blockMax, floor);
    if (positions) {
      for (const at of positions) this.#offer(logits[at]!, base + at, k);
      this.#sort();
      return;
    }
    for (let block = 0, start = 0; start < count; block++, start += BLOCK_IDS) {
      const least = this.count === k ? this.logits[0]! : floor;
      if (blockMax[block]! < least) continue;
      const end = Math.min(start + BLOCK_IDS, count);
      for (let i = start; i < end; i++) {
        const logit = logits[i]!;
        if (logit >= least) this.#offer(logit, base + i, k);
      }
    }
    this.#sort();
  }

  /** Ids must be offered in rising order. The root of the heap is the candidate that leaves first. */
  #offer(logit: number, id: number, k: number): void {
    if (this.count < k) {
      if (logit <= MASKED) return;
      let at = this.count++;
      while (at > 0) {
        const parent = (at - 1) >> 1;
        if (!behind(logit, id, this.logits[parent]!, this.ids[parent]!)) break;
        this.logits[at] = this.logits[parent]!;
        this.ids[at] = this.ids[parent]!;
        at = parent;
      }
      this.logits[at] = logit;
      this.ids[at] = id;
    } else if (logit > this.logits[0]!) {
      this.#sink(logit, id, this.count);
    }
  }

  /** Put a candidate at the root of a heap of `size` and let it sink. */
  #sink(logit: number, id: number, size: number): void {
    const { logits, ids } = this;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && behind(logits[child + 1]!, ids[child + 1]!, logits[child]!, ids[child]!))
        child++;
      if (!behind(logits[child]!, ids[child]!, logit, id)) break;
      logits[at] = logits[child]!;
      ids[at] = ids[child]!;
      at = child;
    }
    logits[at] = logit;
    ids[at] = id;
  }

  #sort(): void {
    for (let size = this.count - 1; size > 0; size--) {
      const logit = this.logits[size]!;
      const id = this.ids[size]!;
      this.logits[size] = this.logits[0]!;
      this.ids[size] = this.ids[0]!;
      this.#sink(logit, id, size);
    }
  }
}

/** Positions of logits that reach `least`, in order; valid until the next call. */
export function reaching(
  logits: Float32Array,
  count: number,
  blockMax: Float32Array,
  least: number,
): Int32Array {
  const positions: number[] = [];
  for (let at = 0; at < count; at++) {
    if (blockMax[Math.floor(at / BLOCK_IDS)]! >= least && logits[at]! >= least) positions.push(at);
  }
  return Int32Array.from(positions);
}

/** The winner of a slice under noise. */
export interface Perturbed {
  /** Position in the slice; -1 where all are masked. */
  position: number;
  /** logit / temperature + noise */
  score: number;
}

/**
 * Largest logit / temperature + noise of a slice.
 *
 * @param best position of the largest logit; -1: all are masked
 * @param into takes the result
 */
export function bestPerturbed(
  logits: Float32Array,
  count: number,
  base: number,
  blockMax: Float32Array,
  best: number,
  temperature: number,
  noise: GumbelNoise,
  into: Perturbed,
): void {
  into.position = best;
  into.score = Number.NEGATIVE_INFINITY;
  if (best < 0) return;
  // The most likely id first: then few others have a chance.
  let winner = best;
  let highest = logits[best]! / temperature + noise.gumbel(base + best);
  for (let block = 0, start = 0; start < count; block++, start += BLOCK_IDS) {
    const top = blockMax[block]! / temperature;
    if (top + GUMBEL_MAX < highest) continue;
    const limit = hashLimit(highest - top);
    const end = Math.min(start + BLOCK_IDS, count);
    for (let i = start; i < end; i++) {
      const hash = noise.hash(base + i);
      if (hash > limit || logits[i]! <= MASKED) continue;
      const score = logits[i]! / temperature + noise.gumbelOfHash(hash, base + i);
      if (score > highest || (score === highest && i < winner)) {
        winner = i;
        highest = score;
      }
    }
  }
  into.position = winner;
  into.score = highest;
}
