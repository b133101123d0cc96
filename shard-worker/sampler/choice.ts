/**
 * What was chosen for a row of a step: the same on every rank.
 */
import type { RowFailure, TopLogprob } from '../../proto/control.js';

export interface Choice {
  /** −1: see `failure`. */
  tokenId: number;
  /** Of the model: before penalties and temperature. NaN unless asked for. */
  logprob: number;
  topLogprobs: TopLogprob[];
  /** No token can be chosen. Absent: one is. */
  failure?: RowFailure;
}

export const failedChoice = (failure: RowFailure): Choice => ({
  tokenId: -1,
  logprob: Number.NaN,
  topLogprobs: [],
  failure,
});
