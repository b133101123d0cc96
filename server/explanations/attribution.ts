/**
 * How much each feature of an input contributes to a score.
 *
 * In      a score of any choice of features (the others are left out), or of any point (integrated gradients)
 * Out     a contribution each; what all of them together must explain: the score with all features less that with none
 * Limits  evaluations are counted before anything is asked: MAX_EVALUATIONS
 * Errors  ServingError BAD_REQUEST: too many evaluations
 * Source  occlusion (Zeiler and Fergus 2014); Shapley values by sampled orders (Castro et al. 2009), each with its reverse; integrated
 *         gradients (Sundararajan et al. 2017), their gradients by central differences, since ONNX Runtime gives none
 */
import { ServingError } from '../../proto/errors.js';

export const MAX_EVALUATIONS = 20_000;

export interface Attribution {
  contributions: number[];
  /** With every feature, and with none. */
  score: number;
  base: number;
  /** The sum of contributions less what they must explain: 0 for Shapley values, but for rounding. */
  delta: number;
  evaluations: number;
}

/** @param kept features that are there */
export type MaskedScore = (kept: readonly boolean[]) => Promise<number>;
export type PointScore = (point: readonly number[]) => Promise<number>;

/** What is lost when one feature is left out. */
export async function occlusion(count: number, score: MaskedScore): Promise<Attribution> {
  checkCost(count + 2);
  const keep = (missing: number): boolean[] => Array.from({ length: count }, (_, at) => at !== missing);
  const [all, base, ...without] = await Promise.all([
    score(keep(-1)),
    score(new Array<boolean>(count).fill(false)),
    ...Array.from({ length: count }, (_, at) => score(keep(at))),
  ]);
  const contributions = without.map((one) => all! - one!);
  return attribution(contributions, all!, base!, count + 2);
}

/**
 * The mean of what a feature adds over orders in which features come.
 *
 * @param samples orders; every second one is the reverse of the one before it
 * @param random in [0, 1)
 */
export async function shapley(
  count: number,
  score: MaskedScore,
  samples: number,
  random: () => number,
): Promise<Attribution> {
  const asked = new Map<string, Promise<number>>();
  const scoreOf = (kept: readonly boolean[]): Promise<number> => {
    const key = kept.map(Number).join('');
    const known = asked.get(key) ?? score([...kept]);
    asked.set(key, known);
    return known;
  };
  checkCost(samples * Math.max(0, count - 1) + 2);
  let last: number[] = [];
  const orders = Array.from({ length: samples }, (_, sample) => {
    last = sample % 2 === 1 ? last.toReversed() : shuffled(count, random);
    return last;
  });
  const none = new Array<boolean>(count).fill(false);
  const added = await Promise.all(
    orders.map(async (order) => {
      const kept = [...none];
      const scores = [scoreOf(kept)];
      for (const feature of order) {
        kept[feature] = true;
        scores.push(scoreOf(kept));
      }
      const known = await Promise.all(scores);
      return order.map((feature, at) => ({ feature, gain: known[at + 1]! - known[at]! }));
    }),
  );
  const contributions = new Array<number>(count).fill(0);
  for (const { feature, gain } of added.flat()) contributions[feature]! += gain / samples;
  const [all, base] = await Promise.all([scoreOf(new Array<boolean>(count).fill(true)), scoreOf(none)]);
  return attribution(contributions, all, base, asked.size);
}

/** Along the straight line from a baseline to the input. @param steps points of the line */
export async function integratedGradients(
  input: readonly number[],
  baseline: readonly number[],
  score: PointScore,
  steps: number,
): Promise<Attribution> {
  const moving = input.flatMap((value, at) => (value === baseline[at] ? [] : [at]));
  const evaluations = 2 * moving.length * steps + 2;
  checkCost(evaluations);
  const contributions = new Array<number>(input.length).fill(0);
  for (let step = 0; step < steps; step++) {
    // The middle of each piece.
    const share = (step + 0.5) / steps;
    const point = input.map((value, at) => baseline[at]! + share * (value - baseline[at]!));
    await Promise.all(
      moving.map(async (at) => {
        const length = input[at]! - baseline[at]!;
        // float32 has seven digits: a smaller step would be noise.
        const width = 1e-2 * Math.max(1e-2, Math.abs(length));
        const beside = (by: number): number[] => point.with(at, point[at]! + by);
        const [above, below] = await Promise.all([score(beside(width)), score(beside(-width))]);
        contributions[at]! += ((above - below) / (2 * width)) * (length / steps);
      }),
    );
  }
  const [all, base] = await Promise.all([score(input), score(baseline)]);
  return attribution(contributions, all, base, evaluations);
}

function attribution(contributions: number[], score: number, base: number, evaluations: number): Attribution {
  const sum = contributions.reduce((total, one) => total + one, 0);
  return { contributions, score, base, delta: sum - (score - base), evaluations };
}

function checkCost(evaluations: number): void {
  if (evaluations > MAX_EVALUATIONS) {
    throw new ServingError(
      'BAD_REQUEST',
      `This explanation asks the model ${evaluations} times, of at most ${MAX_EVALUATIONS}: fewer features or samples`,
    );
  }
}

function shuffled(count: number, random: () => number): number[] {
  const order = Array.from({ length: count }, (_, at) => at);
  for (let at = count - 1; at > 0; at--) {
    const other = Math.floor(random() * (at + 1));
    [order[at], order[other]] = [order[other]!, order[at]!];
  }
  return order;
}

/** mulberry32 (Tommy Ettinger, public domain algorithm): the same seed explains the same way. */
export function seeded(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
