/**
 * Every point, the last dimension fastest, that dimension left early where more of it gains nothing more.
 *
 * Source  Model Analyzer's rule for concurrency: the best of the last four gains less than 5 %
 */
import { type Point, pointKey, type Space } from '../space/space.js';
import type { Search } from './search.js';

const TRIES = 4;
const LEAST_GAIN = 0.05;

export interface GridOptions {
  /** Leave the last dimension early; its figure is told beside the score, see tell. */
  leaveEarly: boolean;
}

export class GridSearch implements Search {
  readonly #points: Iterator<Point>;
  readonly #leaveEarly: boolean;
  /** What was told of the points that differ in the last dimension only. */
  #row: { key: string; scores: number[]; isLeft: boolean } = { key: '', scores: [], isLeft: false };

  constructor(space: Space, { leaveEarly }: GridOptions) {
    this.#points = space.points();
    this.#leaveEarly = leaveEarly;
  }

  next(): Point | null {
    for (;;) {
      const { done, value } = this.#points.next();
      if (done) return null;
      const key = pointKey(value.slice(0, -1));
      if (key !== this.#row.key) this.#row = { key, scores: [], isLeft: false };
      if (!this.#row.isLeft) return value;
    }
  }

  tell(point: Point, score: number | null): void {
    if (!this.#leaveEarly || pointKey(point.slice(0, -1)) !== this.#row.key) return;
    const { scores } = this.#row;
    // What cannot be served with few clients is not served with more.
    if (score === null) this.#row.isLeft = true;
    else scores.push(score);
    if (scores.length <= TRIES) return;
    const before = Math.max(...scores.slice(0, -TRIES));
    const last = Math.max(...scores.slice(-TRIES));
    this.#row.isLeft = last - before < LEAST_GAIN;
  }
}
