/**
 * How much each feature of an input contributes to a score.
 *
 * In      a score of any choice of features (the others are left out), or of any point (integrated gradients)
 * Out     a contribution each; what all of them together must explain: the score with all features less that with none
 * Limits  evaluations are counted before anything is asked: MAX_EVALUATIONS; ASKED_AT_ONCE of them run, and no more of them are in
 *         memory: all of some thousand features would be gigabytes
 * Errors  ServingError BAD_REQUEST: too many evaluations
 * Source  occlusion (Zeiler and Fergus 2014); Shapley values by sampled orders (Castro et al. 2009), each with its reverse; integrated
 *         gradients (Sundararajan et al. 2017), their gradients by central differences, since ONNX Runtime gives none
 */
import { ServingError } from '../../proto/errors.js';

export const MAX_EVALUATIONS = 20_000;
const ASKED_AT_ONCE = 16;

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
  const scores = new Array<number>(count + 2).fill(0);
  // All, none, and all but one.
  await inLanes(scores.keys(), async (at) => {
    scores[at] = await score(Array.from({ length: count }, (_, one) => at !== 1 && one !== at - 2));
  });
  const [all, base, ...without] = scores as [number, number, ...number[]];
  const contributions = without.map((one) => all - one);
  return attribution(contributions, all, base, count + 2);
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
  checkCost(samples * Math.max(0, count - 1) + 2);
  let last: number[] = [];
  const orders = Array.from({ length: samples }, (_, sample) => {
    last = sample % 2 === 1 ? last.toReversed() : shuffled(count, random);
    return last;
  });
  // A choice of features is known by the marks of those in it: thousands of choices of thousands of features are not kept.
  const marks = Array.from({ length: count }, () => (BigInt(mark(random)) << 32n) | BigInt(mark(random)));
  const choices = function* (order: readonly number[]): Generator<{ key: bigint; length: number }> {
    let key = 0n;
    yield { key, length: 0 };
    for (const [at, feature] of order.entries()) {
      key ^= marks[feature]!;
      yield { key, length: at + 1 };
    }
  };
  const scores = new Map<bigint, number>();
  const wanted = function* (): Generator<{ key: bigint; order: readonly number[]; length: number }> {
    const begun = new Set<bigint>();
    for (const order of orders) {
      for (const { key, length } of choices(order)) {
        if (begun.has(key)) continue;
        begun.add(key);
        yield { key, order, length };
      }
    }
  };
  await inLanes(wanted(), async ({ key, length, order }) => {
    const kept = new Array<boolean>(count).fill(false);
    for (const feature of order.slice(0, length)) kept[feature] = true;
    scores.set(key, await score(kept));
  });
  const contributions = new Array<number>(count).fill(0);
  for (const order of orders) {
    let before = scores.get(0n)!;
    for (const { key, length } of choices(order)) {
      if (length === 0) continue;
      const after = scores.get(key)!;
      contributions[order[length - 1]!]! += (after - before) / samples;
      before = after;
    }
  }
  const everything = marks.reduce((key, one) => key ^ one, 0n);
  return attribution(contributions, scores.get(everything)!, scores.get(0n)!, scores.size);
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
    await inLanes(moving, async (at) => {
      const length = input[at]! - baseline[at]!;
      // float32 has seven digits: a smaller step would be noise.
      const width = 1e-2 * Math.max(1e-2, Math.abs(length));
      const beside = (by: number): number[] => point.with(at, point[at]! + by);
      const above = await score(beside(width));
      const below = await score(beside(-width));
      contributions[at]! += ((above - below) / (2 * width)) * (length / steps);
    });
  }
  const [all, base] = await Promise.all([score(input), score(baseline)]);
  return attribution(contributions, all, base, evaluations);
}

/**
 * Each of what is made as it is wanted, ASKED_AT_ONCE at a time; after a failure none begins.
 *
 * @throws what the first one failed with
 */
export async function inLanes<T>(items: Iterable<T>, run: (item: T) => Promise<void>): Promise<void> {
  const rest = items[Symbol.iterator]();
  let hasFailed = false;
  const lane = async (): Promise<void> => {
    for (let next = rest.next(); next.done !== true && !hasFailed; next = rest.next()) {
      try {
        await run(next.value);
      } catch (error) {
        hasFailed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: ASKED_AT_ONCE }, lane));
}

/** 32 bits. */
const mark = (random: () => number): number => Math.floor(random() * 2 ** 32);

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
