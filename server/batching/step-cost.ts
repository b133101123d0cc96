/**
 * What a step of so many tokens costs on this machine with this model, learned from the steps that ran.
 *
 * In      tokens and milliseconds of each step
 * Out     `ms`: what a step of so many tokens will take; `tokensWithin`: the most tokens that a time has room for
 * Limits  a point for each quarter of an octave of tokens; beyond the largest step seen it looks no further than twice as far
 * Pure    times are arguments
 *
 * A curve of measured points, not a formula: a pass over the weights costs the same for 1 and for 8 rows with one kernel and not
 * with another, and kernels change where rows get many. More tokens never cost less, so a newer measurement moves the points
 * that contradict it: that is how a longer context, a hotter machine or a neighbour is learned at sizes that were not run lately.
 */
/** Points an octave. */
const RESOLUTION = 4;
/** Weight of a new measurement in its point. */
const NEWEST_WEIGHT = 0.3;
/** One slow step (a neighbour, a page fault) is not believed whole. */
const MOST_TIMES_KNOWN = 2;
/** How far beyond the largest step seen, in its tokens. */
const REACH = 2;
/** What a token more costs beyond the largest step, of its cost a token, at least: two close points say little of a slope. */
const LEAST_SLOPE = 0.5;

interface Point {
  tokens: number;
  ms: number;
}

export class StepCost {
  /** By quarter octave, rising. */
  readonly #points = new Map<number, Point>();
  #sorted: readonly Point[] = [];

  observe(tokens: number, ms: number): void {
    if (tokens <= 0 || ms <= 0) return;
    const bucket = Math.floor(Math.log2(tokens) * RESOLUTION);
    const known = this.#points.get(bucket);
    const expected = known?.ms ?? this.ms(tokens);
    const seen = expected === null ? ms : Math.min(ms, expected * MOST_TIMES_KNOWN);
    const point = known ?? { tokens, ms: seen };
    if (known) {
      known.tokens += NEWEST_WEIGHT * (tokens - known.tokens);
      known.ms += NEWEST_WEIGHT * (seen - known.ms);
    } else this.#points.set(bucket, point);
    for (const [other, one] of this.#points) {
      if (other < bucket) one.ms = Math.min(one.ms, point.ms);
      if (other > bucket) one.ms = Math.max(one.ms, point.ms);
    }
    this.#sorted = [...this.#points.values()].sort((a, b) => a.tokens - b.tokens);
  }

  /** null: nothing ran yet. Fewer tokens than were ever seen: their part of what the fewest took. */
  ms(tokens: number): number | null {
    const points = this.#sorted;
    const last = points.at(-1);
    if (!last) return null;
    if (tokens >= last.tokens) return last.ms + (tokens - last.tokens) * this.#lastSlope();
    let before: Point = { tokens: 0, ms: 0 };
    for (const point of points) {
      if (point.tokens >= tokens) {
        const span = point.tokens - before.tokens;
        return span === 0 ? point.ms : before.ms + ((point.ms - before.ms) * (tokens - before.tokens)) / span;
      }
      before = point;
    }
    return last.ms;
  }

  /** null: nothing ran yet. 0 where the smallest step that ran took longer: a pass over the weights has its price. */
  tokensWithin(ms: number): number | null {
    const points = this.#sorted;
    const last = points.at(-1);
    if (!last) return null;
    if (ms >= last.ms) {
      return Math.floor(
        Math.min(last.tokens * REACH, last.tokens + (ms - last.ms) / Math.max(this.#lastSlope(), 1e-6)),
      );
    }
    let before: Point | null = null;
    for (const point of points) {
      if (point.ms > ms) {
        if (before === null) return 0;
        const share = (ms - before.ms) / (point.ms - before.ms);
        return Math.floor(before.tokens + share * (point.tokens - before.tokens));
      }
      before = point;
    }
    return Math.floor(last.tokens);
  }

  /** Milliseconds a token, beyond the largest step seen. */
  #lastSlope(): number {
    const last = this.#sorted.at(-1)!;
    const before = this.#sorted.at(-2);
    const average = last.ms / last.tokens;
    if (!before || before.tokens >= last.tokens) return average;
    return Math.max((last.ms - before.ms) / (last.tokens - before.tokens), average * LEAST_SLOPE);
  }
}
