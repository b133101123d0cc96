/** Points in a random order, each once. */
import { Random } from '../load/random.js';
import { type Point, pointKey, type Space } from '../space/space.js';
import type { Search, SearchOptions } from './search.js';

/** Drawn again so often before the rest of the grid is looked through. */
const DRAWS = 200;

export class RandomSearch implements Search {
  readonly #space: Space;
  readonly #random: Random;
  readonly #seen = new Set<string>();

  constructor(space: Space, { seed }: Pick<SearchOptions, 'seed'>) {
    this.#space = space;
    this.#random = new Random(seed, 'random search');
  }

  next(): Point | null {
    if (this.#seen.size >= this.#space.size) return null;
    for (let draw = 0; draw < DRAWS; draw++) {
      const point = this.#space.dimensions.map(({ values }) => this.#random.whole(values.length));
      if (!this.#seen.has(pointKey(point))) return this.#take(point);
    }
    for (const point of this.#space.points()) if (!this.#seen.has(pointKey(point))) return this.#take(point);
    return null;
  }

  tell(point: Point): void {
    this.#seen.add(pointKey(point));
  }

  #take(point: Point): Point {
    this.#seen.add(pointKey(point));
    return point;
  }
}
