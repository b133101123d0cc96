/**
 * Climbs: looks along every dimension with a wide step, walks on while it gains, halves the step at the top, then starts elsewhere.
 *
 * In      a space whose dimensions are ordered
 * Out     few measurements for a hill; a restart from a random point for several hills, while the budget lasts
 * Limits  each point is asked once; noise is not averaged here: the best few are measured again by who asked
 * Source  pattern search (Hooke, Jeeves 1961), on a grid
 */
import { Random } from '../load/random.js';
import { type Point, pointKey, type Space } from '../space/space.js';
import type { Search, SearchOptions } from './search.js';

/** Worse than any score. */
const FAILED = Number.NEGATIVE_INFINITY;

export class HillClimb implements Search {
  readonly #space: Space;
  readonly #random: Random;
  readonly #patience: number;
  readonly #scores = new Map<string, number>();
  readonly #walk: Generator<Point, void>;
  #best = FAILED;
  #sinceBest = 0;

  constructor(space: Space, { patience, seed, start }: SearchOptions) {
    this.#space = space;
    this.#random = new Random(seed, 'climb');
    this.#patience = patience;
    this.#walk = this.#climbs(start ?? space.dimensions.map(({ values }) => (values.length - 1) >> 1));
  }

  next(): Point | null {
    if (this.#patience > 0 && this.#sinceBest >= this.#patience) return null;
    const { done, value } = this.#walk.next();
    return done ? null : value;
  }

  tell(point: Point, score: number | null): void {
    const key = pointKey(point);
    if (!this.#scores.has(key)) this.#sinceBest++;
    this.#scores.set(key, score ?? FAILED);
    if ((score ?? FAILED) > this.#best) {
      this.#best = score!;
      this.#sinceBest = 0;
    }
  }

  *#climbs(start: Point): Generator<Point, void> {
    yield* this.#climb(start);
    while (this.#scores.size < this.#space.size) {
      const from = this.#unseen();
      if (from === null) return;
      yield* this.#climb(from);
    }
  }

  *#climb(start: Point): Generator<Point, void> {
    let at = start;
    yield* this.#ask(at);
    const widest = Math.max(...this.#space.dimensions.map(({ values }) => values.length));
    for (let step = Math.max(1, 2 ** Math.floor(Math.log2(widest / 3))); step >= 1; ) {
      const before = at;
      for (let axis = 0; axis < this.#space.dimensions.length; axis++) {
        at = yield* this.#along(at, axis, step);
      }
      if (pointKey(before) === pointKey(at)) step = step === 1 ? 0 : step >> 1;
    }
  }

  /** The best point reached along one axis, walking on while it gains. */
  *#along(from: Point, axis: number, step: number): Generator<Point, Point> {
    for (const by of [step, -step]) {
      let at = from;
      for (;;) {
        const to = this.#space.moved(at, axis, by);
        if (to === null) break;
        yield* this.#ask(to);
        if (this.#scoreOf(to) <= this.#scoreOf(at)) break;
        at = to;
      }
      if (at !== from) return at;
    }
    return from;
  }

  *#ask(point: Point): Generator<Point, void> {
    if (!this.#scores.has(pointKey(point))) yield point;
  }

  #scoreOf(point: Point): number {
    return this.#scores.get(pointKey(point)) ?? FAILED;
  }

  #unseen(): Point | null {
    for (let draw = 0; draw < 200; draw++) {
      const point = this.#space.dimensions.map(({ values }) => this.#random.whole(values.length));
      if (!this.#scores.has(pointKey(point))) return point;
    }
    for (const point of this.#space.points()) if (!this.#scores.has(pointKey(point))) return point;
    return null;
  }
}
