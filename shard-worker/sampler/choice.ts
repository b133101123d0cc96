/**
 * What was chosen for a row of a step: the same on every rank.
 */
import type { ChosenToken, RowFailure } from '../../proto/control.js';

/** Its id is −1 where there is a failure. */
export interface Choice extends ChosenToken {
  /** No token can be chosen. Absent: one is. */
  failure?: RowFailure;
}

export const failedChoice = (failure: RowFailure): Choice => ({
  tokenId: -1,
  logprob: Number.NaN,
  topLogprobs: [],
  failure,
});
