/** Scales (and zero points) by search for one block of 4 bits, one value after the other: what ss_quantise must give to the byte. */
import { roundToHalf } from '../../partitioner/quantise/half.js';

export interface FoundBlock {
  scale: number;
  zero: number;
  codes: number[];
}

const LEVELS = 15;

const levelsOf = (values: readonly number[], scale: number, zero: number): number[] => {
  const inverse = scale === 0 ? 0 : 1 / scale;
  return values.map((value) => Math.trunc(Math.min(LEVELS, Math.max(0, value * inverse + (zero + 0.5)))));
};

const sumOf = (count: number, term: (index: number) => number): number => {
  let sum = 0;
  for (let index = 0; index < count; index++) sum += term(index);
  return sum;
};

class Best {
  error = Number.POSITIVE_INFINITY;
  scale: number;
  zero: number;
  readonly #values: readonly number[];
  readonly #weights: readonly number[];

  constructor(values: readonly number[], weights: readonly number[], scale: number, zero: number) {
    this.#values = values;
    this.#weights = weights;
    this.scale = scale;
    this.zero = zero;
  }

  judge(scale: number, zero: number): void {
    const levels = levelsOf(this.#values, scale, zero);
    const error = sumOf(levels.length, (k) => {
      const off = this.#values[k]! - scale * (levels[k]! - zero);
      return this.#weights[k]! * (off * off);
    });
    if (scale === 0 || !(error < this.error)) return;
    [this.error, this.scale, this.zero] = [error, scale, zero];
  }
}

/** @param importance what an error in each value weighs; all 0: alike */
export function searchBlock(
  values: readonly number[],
  importance: readonly number[],
  hasZero: boolean,
): FoundBlock {
  const count = values.length;
  let weights = importance;
  let total = sumOf(count, (k) => weights[k]!);
  if (!(total > 0)) {
    weights = values.map(() => 1);
    total = count;
  }
  const largest = values.reduce((most, value) => (Math.abs(value) > Math.abs(most) ? value : most));
  const best = hasZero ? searchZero(values, weights, total) : searchSymmetric(values, weights, largest);
  const scale = roundToHalf(best.scale);
  const isNothing = Math.abs(largest) < 2 ** -126 || scale === 0;
  const zero = isNothing ? 8 : best.zero;
  const found = isNothing ? 0 : scale;
  return { scale: found, zero, codes: levelsOf(values, found, zero) };
}

function searchZero(values: readonly number[], weights: readonly number[], total: number): Best {
  const count = values.length;
  const low = Math.min(...values);
  const high = Math.max(...values);
  const mean = sumOf(count, (k) => weights[k]! * values[k]!) / total;
  const best = new Best(values, weights, low, 0);
  for (const offset of [-0.8, 0, 0.8, 1.6, 2.6]) {
    let scale = (high - low) / (LEVELS + offset);
    let zero = scale === 0 ? 0 : 7.5 - (high + low) / 2 / scale;
    for (let turn = 0; turn < 2; turn++) {
      const levels = levelsOf(values, scale, zero);
      const levelMean = sumOf(count, (k) => weights[k]! * levels[k]!) / total;
      const both = sumOf(count, (k) => weights[k]! * (levels[k]! - levelMean) * (values[k]! - mean));
      const squares = sumOf(count, (k) => weights[k]! * (levels[k]! - levelMean) * (levels[k]! - levelMean));
      const fitted = squares > 0 ? both / squares : 0;
      scale = roundToHalf(fitted > 0 ? fitted : scale);
      zero = scale === 0 ? 0 : roundToHalf(levelMean - mean / scale);
    }
    best.judge(scale, zero);
  }
  return best;
}

function searchSymmetric(values: readonly number[], weights: readonly number[], largest: number): Best {
  const count = values.length;
  const best = new Best(values, weights, -largest / 8, 8);
  for (let step = 0; step < 14; step++) {
    let scale = roundToHalf(-largest / (8 + (-1.4 + 0.35 * step)));
    const levels = levelsOf(values, scale, 8);
    const both = sumOf(count, (k) => weights[k]! * (levels[k]! - 8) * values[k]!);
    const squares = sumOf(count, (k) => weights[k]! * (levels[k]! - 8) * (levels[k]! - 8));
    scale = roundToHalf(squares > 0 ? both / squares : scale);
    best.judge(scale, 8);
  }
  return best;
}
