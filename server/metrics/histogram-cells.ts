/**
 * The cells of one histogram, filled on the hot path: no hashing of labels, no allocation.
 *
 * In      observe(value), a million times a second if need be
 * Out     cumulative counts, sum and count for a scrape
 * Limits  at most 32 bounds, since observe() walks them
 * Errors  assertions on bounds that do not rise
 */
import assert from 'node:assert/strict';

const MAX_BOUNDS = 32;

export class HistogramCells {
  /** Upper bounds, included, rising; one cell more counts what lies above the last. */
  readonly bounds: readonly number[];
  readonly #counts: Float64Array;
  /** [sum, observations]: in an array, so that a write makes no heap number. */
  readonly #totals = new Float64Array(2);

  constructor(bounds: readonly number[]) {
    const rises = bounds.every((bound, index) => index === 0 || bound > bounds[index - 1]!);
    assert(rises && bounds.length > 0 && bounds.length <= MAX_BOUNDS, `bounds ${bounds.join(', ')}`);
    this.bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    const { bounds } = this;
    let cell = 0;
    while (cell < bounds.length && value > bounds[cell]!) cell++;
    this.#counts[cell]!++;
    this.#totals[0]! += value;
    this.#totals[1]!++;
  }

  get sum(): number {
    return this.#totals[0]!;
  }

  get count(): number {
    return this.#totals[1]!;
  }

  /** Observations up to and including each bound. */
  cumulative(): number[] {
    let below = 0;
    return this.bounds.map((_, index) => {
      below += this.#counts[index]!;
      return below;
    });
  }
}
