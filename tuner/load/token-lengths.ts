/**
 * How long prompts and answers are: a number, a range, or a bell with ends.
 *
 * In      {mean, deviation, min, max}; a plain number is its own mean, without deviation
 * Out     whole numbers, at least 1
 * Limits  a draw outside [min, max] is drawn again, at most DRAWS times, then cut to the end it passed
 */
import type { Random } from './random.js';

export interface LengthDistribution {
  mean: number;
  deviation: number;
  min: number;
  max: number;
}

const DRAWS = 20;

export function lengths(given: number | Partial<LengthDistribution>): LengthDistribution {
  if (typeof given === 'number') return { mean: given, deviation: 0, min: given, max: given };
  const min = given.min ?? 1;
  const max = given.max ?? Number.MAX_SAFE_INTEGER;
  const mean = given.mean ?? (given.min !== undefined && given.max !== undefined ? (min + max) / 2 : min);
  // A range alone means all of it alike.
  const isRange = given.mean === undefined && given.deviation === undefined;
  return { mean, deviation: given.deviation ?? (isRange ? Number.POSITIVE_INFINITY : 0), min, max };
}

export function drawLength({ deviation, max, mean, min }: LengthDistribution, random: Random): number {
  if (deviation === 0) return Math.max(1, Math.round(mean));
  if (deviation === Number.POSITIVE_INFINITY) return Math.max(1, min + random.whole(max - min + 1));
  for (let draw = 0; draw < DRAWS; draw++) {
    const length = Math.round(mean + deviation * random.normal());
    if (length >= min && length <= max) return Math.max(1, length);
  }
  return Math.max(1, Math.round(Math.min(max, Math.max(min, mean))));
}
