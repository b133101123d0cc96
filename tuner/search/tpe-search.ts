/**
 * Tree-structured Parzen estimator: draws where good points lie and bad ones do not.
 *
 * In      a space of ordered values
 * Out     after STARTUP random points: of CANDIDATES drawn from the density of the good quarter, the one whose density among the good is
 *         largest beside that among the bad
 * Limits  dimensions are taken as independent, as in the paper
 * Source  Bergstra, Bardenet, Bengio, Kégl: Algorithms for Hyper-Parameter Optimization, 2011. There is no kept optimiser for Node
 */
import { Random } from '../load/random.js';
import { type Point, pointKey, type Space } from '../space/space.js';
import { RandomSearch } from './random-search.js';
import type { Search, SearchOptions } from './search.js';

const STARTUP = 10;
const CANDIDATES = 48;
const GOOD_SHARE = 0.25;
const MOST_GOOD = 25;
/** A kernel over indices has half its weight on the value itself. */
const NEIGHBOUR_WEIGHT = 0.25;
const FAILED = Number.NEGATIVE_INFINITY;

export class TpeSearch implements Search {
  readonly #space: Space;
  readonly #random: Random;
  readonly #startup: RandomSearch;
  readonly #patience: number;
  readonly #start: Point | null;
  readonly #told: { point: Point; score: number }[] = [];
  readonly #seen = new Set<string>();
  #best = FAILED;
  #sinceBest = 0;

  constructor(space: Space, { patience, seed, start }: SearchOptions) {
    this.#space = space;
    this.#random = new Random(seed, 'tpe');
    this.#startup = new RandomSearch(space, { seed });
    this.#patience = patience;
    this.#start = start;
  }

  next(): Point | null {
    if (this.#seen.size >= this.#space.size) return null;
    if (this.#patience > 0 && this.#told.length >= STARTUP && this.#sinceBest >= this.#patience) return null;
    const point = this.#propose();
    if (point !== null) this.#seen.add(pointKey(point));
    return point;
  }

  tell(point: Point, score: number | null): void {
    this.#startup.tell(point);
    this.#seen.add(pointKey(point));
    this.#told.push({ point, score: score ?? FAILED });
    this.#sinceBest++;
    if ((score ?? FAILED) > this.#best) {
      this.#best = score!;
      this.#sinceBest = 0;
    }
  }

  #propose(): Point | null {
    if (this.#told.length === 0 && this.#start !== null) return this.#start;
    if (this.#told.length < STARTUP) return this.#startup.next();
    const ranked = [...this.#told].sort((a, b) => b.score - a.score);
    const good = Math.min(MOST_GOOD, Math.max(1, Math.ceil(GOOD_SHARE * ranked.length)));
    const above = this.#densities(ranked.slice(0, good));
    const below = this.#densities(ranked.slice(good));
    let best: Point | null = null;
    let bestRatio = FAILED;
    for (let draw = 0; draw < CANDIDATES; draw++) {
      const point = above.map((weights) => this.#drawn(weights));
      if (this.#seen.has(pointKey(point))) continue;
      const ratio = point.reduce(
        (sum, at, axis) => sum + Math.log(above[axis]![at]!) - Math.log(below[axis]![at]!),
        0,
      );
      if (ratio > bestRatio) [best, bestRatio] = [point, ratio];
    }
    return best ?? this.#startup.next();
  }

  /** The weight of each value of each dimension: one for all alike, and a kernel for each point. */
  #densities(points: readonly { point: Point }[]): number[][] {
    return this.#space.dimensions.map(({ values }, axis) => {
      const weights = new Array<number>(values.length).fill(1 / values.length);
      for (const { point } of points) {
        const at = point[axis]!;
        const near = [at - 1, at + 1].filter((index) => index >= 0 && index < values.length);
        weights[at]! += 1 - NEIGHBOUR_WEIGHT * near.length;
        for (const index of near) weights[index]! += NEIGHBOUR_WEIGHT;
      }
      return weights.map((weight) => weight / (points.length + 1));
    });
  }

  #drawn(weights: readonly number[]): number {
    let left = this.#random.uniform();
    const found = weights.findIndex((weight) => {
      left -= weight;
      return left < 0;
    });
    return found === -1 ? weights.length - 1 : found;
  }
}
