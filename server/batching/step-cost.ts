/**
 * What a step costs on this machine with this model, learned from the steps that ran.
 *
 * In      work (tokens, and pairs of a token with a row that it attends to) and milliseconds of each step
 * Out     `ms`: what a step will take; `tokensWithin`: the most tokens that a time has room for
 * Limits  a point for each quarter of an octave of tokens; beyond the largest step seen it looks no further than it is told
 * Pure    times are arguments
 *
 * A curve of measured points, not a formula: a pass over the weights costs the same for 1 and for 8 rows with one kernel and not
 * with another, and kernels change where rows get many. More tokens never cost less, so a newer measurement moves the points
 * that contradict it: that is how a hotter machine or a neighbour is learned at sizes that were not run lately.
 * Attention is apart: the same tokens cost more behind a long context. What a pair costs is learned from steps of like numbers of
 * tokens and unlike contexts, each by as much as its pairs stand out. More pairs than a point was measured with cost what they are
 * thought to; what fewer save is believed as far as there were measurements.
 */
/** Points an octave. */
const RESOLUTION = 4;
/** Weight of a new measurement in its point. */
const NEWEST_WEIGHT = 0.3;
/** One slow step (a neighbour, a page fault) is not believed whole. */
const MOST_TIMES_KNOWN = 2;
/** Pairs that cost what a token does, until it is known: a guess. */
const PAIRS_A_TOKEN = 3000;
/** Times what was first thought that a pair costs. */
const MOST_PAIR_FACTOR = 20;
/** Likewise: so much may be noise. */
const PAIR_DOUBT = 0.25;
/** Weight of a new measurement in what a pair costs, where its pairs stand out. */
const PAIR_WEIGHT = 0.2;
/** They do where they change the step by so much of its time. */
const PAIRS_STAND_OUT = 0.1;
/** Measurements that stand out until half of what fewer pairs should save is believed. */
const BELIEVED_AFTER = 8;
/** Share of a step's time that its tokens themselves take, at least. */
const LEAST_BASE = 0.2;
/** Points nearer to the largest step say nothing of the slope beyond it. */
const SLOPE_FROM = 0.75;

export interface StepWork {
  tokens: number;
  /** Over all tokens of the step, the rows that each of them attends to. */
  pairs: number;
}

interface Point extends StepWork {
  ms: number;
}

export class StepCost {
  /** By quarter octave. */
  readonly #points = new Map<number, Point>();
  /** The same, rising. */
  #sorted: readonly Point[] = [];
  /** Least milliseconds a token of any step: what a pair's cost is told in. */
  #leastTokenMs = Number.POSITIVE_INFINITY;
  #pairFactor = 1;
  /** Measurements whose pairs stood out. */
  #pairsSeen = 0;

  observe({ pairs, tokens }: StepWork, ms: number): void {
    if (tokens <= 0 || ms <= 0) return;
    const bucket = Math.floor(Math.log2(tokens) * RESOLUTION);
    const known = this.#points.get(bucket);
    const expected = this.ms({ tokens, pairs });
    const seen = expected === null ? ms : Math.min(ms, expected * MOST_TIMES_KNOWN);
    if (known) this.#learnPairs(known, { tokens, pairs, ms: seen });
    this.#leastTokenMs = Math.min(this.#leastTokenMs, seen / tokens);
    const point = known ?? { tokens, pairs, ms: seen };
    if (known) {
      known.tokens += NEWEST_WEIGHT * (tokens - known.tokens);
      known.pairs += NEWEST_WEIGHT * (pairs - known.pairs);
      known.ms += NEWEST_WEIGHT * (seen - known.ms);
    } else this.#points.set(bucket, point);
    const base = this.#baseOf(point);
    for (const [other, one] of this.#points) {
      const above = this.#baseOf(one) - base;
      if (other < bucket ? above > 0 : above < 0) one.ms -= above;
    }
    this.#sorted = [...this.#points.values()].sort((a, b) => a.tokens - b.tokens);
  }

  /** null: nothing ran yet. Fewer tokens than were ever seen: their part of what the fewest took. */
  ms({ pairs, tokens }: StepWork): number | null {
    let before = { tokens: 0, ms: 0 };
    let inner = before;
    for (const point of this.#sorted) {
      const ms = Math.max(before.ms, this.#withPairs(point, pairs));
      if (point.tokens >= tokens) {
        const span = point.tokens - before.tokens;
        return span === 0 ? ms : before.ms + ((ms - before.ms) * (tokens - before.tokens)) / span;
      }
      before = { tokens: point.tokens, ms };
      if (point.tokens <= (this.#sorted.at(-1)?.tokens ?? 0) * SLOPE_FROM) inner = before;
    }
    if (before.tokens === 0) return null;
    // Beyond the largest step never less than its tokens cost on average: two measured points lie as much apart as their noise says.
    const slope = (before.ms - inner.ms) / (before.tokens - inner.tokens);
    return before.ms + (tokens - before.tokens) * Math.max(slope, before.ms / before.tokens);
  }

  /**
   * @param pairsOf of a step with so many tokens: rising
   * @param reach times the tokens of the largest step seen that it may look ahead
   * @returns null: nothing ran yet. 0 where the smallest step that ran took longer: a pass over the weights has its price
   */
  tokensWithin(ms: number, reach: number, pairsOf: (tokens: number) => number): number | null {
    const [first] = this.#sorted;
    const last = this.#sorted.at(-1);
    if (!first || !last) return null;
    const fits = (tokens: number): boolean =>
      (this.ms({ tokens: Math.max(tokens, first.tokens), pairs: pairsOf(tokens) }) ?? 0) <= ms;
    let least = 0;
    let most = Math.floor(last.tokens * reach);
    while (least < most) {
      const middle = Math.ceil((least + most) / 2);
      if (fits(middle)) least = middle;
      else most = middle - 1;
    }
    return least;
  }

  #pairsMs(pairs: number): number {
    if (pairs === 0 || this.#points.size === 0) return 0;
    return (pairs * this.#pairFactor * this.#leastTokenMs) / PAIRS_A_TOKEN;
  }

  /** What the point's tokens take with other pairs. */
  #withPairs(point: Point, pairs: number): number {
    const more = this.#pairsMs(pairs - point.pairs);
    if (more >= 0) return point.ms + more;
    const sure = Math.max(0, 1 - PAIR_DOUBT / this.#pairFactor);
    const believed = (sure * this.#pairsSeen) / (this.#pairsSeen + BELIEVED_AFTER);
    return Math.max(point.ms + more * believed, this.#baseOf(point));
  }

  #baseOf({ ms, pairs }: Point): number {
    return Math.max(ms - this.#pairsMs(pairs), ms * LEAST_BASE);
  }

  #learnPairs(known: Point, { ms, pairs, tokens }: Point): void {
    // Tokens of a point differ a little: what they differ by is taken at its part.
    const others = ms - known.ms - (this.#baseOf(known) * (tokens - known.tokens)) / known.tokens;
    const unit = this.#pairsMs(pairs - known.pairs) / this.#pairFactor;
    const scale = known.ms * PAIRS_STAND_OUT;
    this.#pairsSeen += unit ** 2 / (unit ** 2 + scale ** 2);
    const factor =
      this.#pairFactor + (PAIR_WEIGHT * unit * (others - this.#pairFactor * unit)) / (unit ** 2 + scale ** 2);
    this.#pairFactor = Math.min(MOST_PAIR_FACTOR, Math.max(1 / MOST_PAIR_FACTOR, factor));
  }
}
