/** Parsers with a bug, which whoever watches must find: an error that is none of ours, an end of the process, one that never comes. */
import type { SeededRandom } from '../../fixtures/seeded-random.js';
import { type FuzzTarget, isOperating } from '../fuzz-target.js';

const planted = (name: string, bug: () => unknown): FuzzTarget => ({
  name,
  weight: 0,
  run: (random: SeededRandom) => (random.next() < 0.05 ? bug() : null),
  isExpected: isOperating,
});

export const PLANTED_TARGETS: readonly FuzzTarget[] = [
  planted('planted-error', () => JSON.parse('{')),
  planted('planted-crash', () => process.abort()),
  planted('planted-hang', () => {
    for (;;);
  }),
];
