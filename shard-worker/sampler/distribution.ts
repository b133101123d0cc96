/**
 * The second stage for rows with limits: which ids are kept, with what weight, and which of them is drawn.
 *
 * In      a pool of (id, logit after the processors): the ranks' candidates, or the whole row
 * Out     the kept ids and their weights exp((logit − max) / T); or that the pool does not prove them
 * Order   temperature, top_k, top_p, min_p, typical_p: each over what the one before left, as transformers' warpers do
 *         top_k      the k first (equal logits: lower id first; transformers keeps all that equal the k-th)
 *         top_p      an id whose betters hold less than top_p of the mass; at least one
 *         min_p      weight of at least min_p times the largest
 *         typical_p  ids nearest to the expected information until their mass reaches typical_p; at least one
 * How     ids are taken from a heap, largest logit first, until the limits are met: of a vocabulary of 32000 only the kept
 *         ones are ever sorted
 * Source  transformers, generation/logits_process.py: TopKLogitsWarper, TopPLogitsWarper, MinPLogitsWarper,
 *         TypicalLogitsWarper
 */
import assert from 'node:assert/strict';
import type { Sampling } from '../../proto/control.js';
import type { ChooseSequence } from '../sequence.js';
import { MASKED } from './keep-bits.js';
import type { GumbelNoise } from './noise.js';
import { Processors } from './processors.js';
import { effectiveTopK } from './row-share.js';

/** Where the pool ends: behind this candidate there are ids that were not offered. */
export interface Floor {
  logit: number;
  id: number;
}

export class Distribution {
  /** The kept ids, the first `count`: with their logits and weights. */
  readonly ids: Int32Array;
  readonly logits: Float32Array;
  readonly weights: Float64Array;
  count = 0;

  readonly #vocabSize: number;
  // A heap, first candidate at the root.
  readonly #poolIds: Int32Array;
  readonly #poolLogits: Float32Array;
  #pooled = 0;

  constructor(vocabSize: number) {
    this.#vocabSize = vocabSize;
    this.ids = new Int32Array(vocabSize);
    this.logits = new Float32Array(vocabSize);
    this.weights = new Float64Array(vocabSize);
    this.#poolIds = new Int32Array(vocabSize);
    this.#poolLogits = new Float32Array(vocabSize);
  }

  clear(): void {
    this.#pooled = 0;
  }

  offer(id: number, logit: number): void {
    if (logit <= MASKED) return;
    this.#poolIds[this.#pooled] = id;
    this.#poolLogits[this.#pooled] = logit;
    this.#pooled += 1;
  }

  /** @param base id of the first logit */
  offerAll(logits: Float32Array, base: number): void {
    for (let i = 0; i < logits.length; i++) this.offer(base + i, logits[i]!);
  }

  /**
   * Apply temperature and limits to the pool, and empty it.
   *
   * @param floor last candidate that is known to have no better one outside the pool; null: the pool is everything
   * @param mass of exp((logit − max) / T) over the whole row; needed where top_p limits and top_k does not
   * @returns false where ids outside the pool may belong to the kept ones
   */
  keep(sampling: Sampling, floor: Floor | null, mass: number): boolean {
    const { temperature, topP, minP } = sampling;
    const topK = effectiveTopK(sampling, this.#vocabSize);
    if (topK === 0 && topP >= 1 && minP <= 0) {
      assert(floor === null, 'without limits every id is kept');
      this.#keepPool(temperature);
    } else if (!this.#keepFirst(topK, temperature, topP, minP, floor, mass)) {
      return false;
    }
    if (sampling.typicalP < 1) this.#keepTypical(temperature, sampling.typicalP);
    return true;
  }

  /** Index of the drawn one among the kept; −1 where none is. */
  draw(temperature: number, noise: GumbelNoise): number {
    let winner = -1;
    let highest = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < this.count; i++) {
      const score = this.logits[i]! / temperature + noise.gumbel(this.ids[i]!);
      if (score > highest || (score === highest && this.ids[i]! < this.ids[winner]!)) {
        winner = i;
        highest = score;
      }
    }
    return winner;
  }

  #keepPool(temperature: number): void {
    this.count = this.#pooled;
    this.#pooled = 0;
    let max = MASKED;
    for (let i = 0; i < this.count; i++) max = Math.max(max, this.#poolLogits[i]!);
    for (let i = 0; i < this.count; i++) {
      this.ids[i] = this.#poolIds[i]!;
      this.logits[i] = this.#poolLogits[i]!;
      this.weights[i] = Math.exp((this.#poolLogits[i]! - max) / temperature);
    }
  }

  #keepFirst(
    topK: number,
    temperature: number,
    topP: number,
    minP: number,
    floor: Floor | null,
    mass: number,
  ): boolean {
    this.#heapify();
    // top_p after top_k counts the mass of all k: min_p must not end the walk before.
    const minPEnds = minP > 0 && (topK === 0 || topP >= 1);
    let max = 0;
    let sum = 0;
    let unproven = false;
    this.count = 0;
    while (this.count !== topK || topK === 0) {
      if (topK === 0 && topP < 1 && this.count > 0 && sum >= topP * mass) break;
      if (unproven || (this.#pooled === 0 && floor !== null)) return false;
      if (this.#pooled === 0) break;
      const id = this.#poolIds[0]!;
      const logit = this.#poolLogits[0]!;
      this.#removeFirst();
      if (this.count === 0) max = logit;
      const weight = Math.exp((logit - max) / temperature);
      if (minPEnds && weight < minP) break;
      this.ids[this.count] = id;
      this.logits[this.count] = logit;
      this.weights[this.count] = weight;
      this.count += 1;
      sum += weight;
      unproven = floor !== null && id === floor.id;
    }
    if (topK > 0 && topP < 1) this.#cutNucleus(topP * sum);
    if (minP > 0) {
      let kept = Math.min(1, this.count);
      while (kept < this.count && this.weights[kept]! >= minP) kept++;
      this.count = kept;
    }
    return true;
  }

  #cutNucleus(limit: number): void {
    let sum = 0;
    for (let i = 0; i < this.count; i++) {
      if (i > 0 && sum >= limit) {
        this.count = i;
        return;
      }
      sum += this.weights[i]!;
    }
  }

  #keepTypical(temperature: number, typicalP: number): void {
    const { count, ids, logits, weights } = this;
    let sum = 0;
    let max = MASKED;
    for (let i = 0; i < count; i++) {
      sum += weights[i]!;
      max = Math.max(max, logits[i]!);
    }
    const logSum = Math.log(sum);
    const information = new Float64Array(count);
    let entropy = 0;
    for (let i = 0; i < count; i++) {
      information[i] = logSum - (logits[i]! - max) / temperature;
      entropy += (weights[i]! / sum) * information[i]!;
    }
    const order = new DistanceHeap(count);
    for (let i = 0; i < count; i++) order.distances[i] = Math.abs(information[i]! - entropy);
    order.heapify();
    let reached = 0;
    let threshold = 0;
    while (order.size > 0 && reached < typicalP * sum) {
      const index = order.removeFirst();
      threshold = order.distances[index]!;
      reached += weights[index]!;
    }
    let kept = 0;
    for (let i = 0; i < count; i++) {
      if (order.distances[i]! > threshold) continue;
      ids[kept] = ids[i]!;
      logits[kept] = logits[i]!;
      weights[kept] = weights[i]!;
      kept += 1;
    }
    this.count = kept;
  }

  #heapify(): void {
    for (let at = (this.#pooled >> 1) - 1; at >= 0; at--) {
      this.#sink(at, this.#poolLogits[at]!, this.#poolIds[at]!);
    }
  }

  #removeFirst(): void {
    this.#pooled -= 1;
    if (this.#pooled > 0) this.#sink(0, this.#poolLogits[this.#pooled]!, this.#poolIds[this.#pooled]!);
  }

  #sink(from: number, logit: number, id: number): void {
    const poolIds = this.#poolIds;
    const poolLogits = this.#poolLogits;
    const pooled = this.#pooled;
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= pooled) break;
      if (
        child + 1 < pooled &&
        ahead(poolLogits[child + 1]!, poolIds[child + 1]!, poolLogits[child]!, poolIds[child]!)
      ) {
        child++;
      }
      if (!ahead(poolLogits[child]!, poolIds[child]!, logit, id)) break;
      poolLogits[at] = poolLogits[child]!;
      poolIds[at] = poolIds[child]!;
      at = child;
    }
    poolLogits[at] = logit;
    poolIds[at] = id;
  }
}

/** Whether a comes before b in the order of candidates. */
const ahead = (logitA: number, idA: number, logitB: number, idB: number): boolean =>
  logitA > logitB || (logitA === logitB && idA < idB);

/** Indices, smallest distance first. */
class DistanceHeap {
  readonly distances: Float64Array;
  size: number;
  readonly #indices: Int32Array;

  constructor(count: number) {
    this.distances = new Float64Array(count);
    this.#indices = Int32Array.from({ length: count }, (_, index) => index);
    this.size = count;
  }

  heapify(): void {
    for (let at = (this.size >> 1) - 1; at >= 0; at--) this.#sink(at, this.#indices[at]!);
  }

  removeFirst(): number {
    const first = this.#indices[0]!;
    this.size -= 1;
    if (this.size > 0) this.#sink(0, this.#indices[this.size]!);
    return first;
  }

  #sink(from: number, index: number): void {
    const { distances, size } = this;
    const indices = this.#indices;
    const distance = distances[index]!;
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && distances[indices[child + 1]!]! < distances[indices[child]!]!) child++;
      if (!(distances[indices[child]!]! < distance)) break;
      indices[at] = indices[child]!;
      at = child;
    }
    indices[at] = index;
  }
}

/**
 * The distribution that the next token of a sequence is drawn from: kept id → probability. For tests and explanations: the
 * same code that chooses, over a whole row.
 *
 * @param logits [vocabSize], unchanged
 */
export function finalDistribution(
  logits: Float32Array,
  vocabSize: number,
  sequence: ChooseSequence,
): Map<number, number> {
  const row = logits.slice(0, vocabSize);
  new Processors(0, vocabSize).apply(row, sequence, null);
  const distribution = new Distribution(vocabSize);
  distribution.offerAll(row, 0);
  const { sampling } = sequence;
  if (sampling.greedy) {
    distribution.keep({ ...sampling, temperature: 1, topK: 1, topP: 1, minP: 0, typicalP: 1 }, null, 0);
  } else {
    const max = row.reduce((largest, logit) => Math.max(largest, logit), MASKED);
    distribution.keep(sampling, null, massOf(row, sampling.temperature, max));
  }
  let sum = 0;
  for (let i = 0; i < distribution.count; i++) sum += distribution.weights[i]!;
  const probabilities = new Map<number, number>();
  for (let i = 0; i < distribution.count; i++) {
    probabilities.set(distribution.ids[i]!, distribution.weights[i]! / sum);
  }
  return probabilities;
}

/** Sum of exp((logit − max) / T) over a row or a slice of it. */
export function massOf(row: Float32Array, temperature: number, max: number): number {
  let sum = 0;
  for (let i = 0; i < row.length; i++) sum += Math.exp((row[i]! - max) / temperature);
  return sum;
}
