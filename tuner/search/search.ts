/**
 * How a space is searched: what to measure next, told what came of it.
 *
 * In      tell(point, score): more is better; null: that point cannot be served
 * Out     next(): a point that was not measured yet, or null at the end
 * Limits  the budget is the caller's; the same seed and the same answers give the same questions, which is what resuming rests on
 */
import type { Point } from '../space/space.js';

export interface Search {
  next(): Point | null;
  tell(point: Point, score: number | null): void;
}

export interface SearchOptions {
  seed: number;
  /** Where to begin; null: the middle. */
  start: Point | null;
  /** Stop after so many measurements without a gain; 0: never. */
  patience: number;
}
