/** A parser of strangers' bytes, and cases for it: what is made of a seed alone, so that a number is a case. */
import { ServingError } from '../../proto/errors.js';
import type { SeededRandom } from '../fixtures/seeded-random.js';

export interface FuzzTarget {
  readonly name: string;
  /** All cases of a run together. */
  readonly weight: number;
  /** Makes a case and gives it to the parser. */
  run(random: SeededRandom): unknown;
  /** An error that a parser may end with; any other is a finding. */
  isExpected(error: unknown): boolean;
}

/** An operating error, and no bug that was turned into one. */
export const isOperating = (error: unknown): boolean =>
  error instanceof ServingError && error.code !== 'INTERNAL';
