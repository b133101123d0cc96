/**
 * How a pipeline runs: for serving, or for training, where some operators change their inputs by chance.
 *
 * In      a mode and a seed; the place of an operator's call in the graph
 * Out     numbers in [0, 1): the same seed, the same numbers
 * Pure
 */

export interface RunMode {
  /** Default: eval, where nothing is left to chance. */
  mode?: 'train' | 'eval';
  /** Default: 0. Whoever trains gives each run another one. */
  seed?: number;
}

/** What an operator of chance is told. */
export interface Chance {
  isTraining: boolean;
  /** In [0, 1). */
  random: () => number;
}

/** @param node whose numbers do not depend on which other nodes run first */
export function chanceOf({ mode = 'eval', seed = 0 }: RunMode, node: number): Chance {
  let state = Math.imul(seed ^ Math.imul(node + 1, 0x9e3779b1), 0x85ebca6b);
  const random = (): number => {
    // mulberry32 (Tommy Ettinger, public domain algorithm)
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return { isTraining: mode === 'train', random };
}
