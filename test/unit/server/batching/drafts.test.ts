/** Prompt lookup: what followed where the last tokens stood before. */
import { describe, expect, it } from 'vitest';
import { promptLookup } from '../../../../server/batching/drafts.js';

describe('prompt lookup', () => {
  it('guesses what followed the same tokens, as many as are asked for', () => {
    const guess = promptLookup(2, 4);
    expect(guess([1, 2, 3, 4, 5, 9, 2, 3], 2)).toEqual([4, 5]);
    expect(guess([1, 2, 3, 4, 5, 9, 2, 3], 9)).toEqual([4, 5, 9, 2, 3, 4, 5, 9, 2]);
  });

  it('guesses nothing where fewer tokens are equal than must be', () => {
    expect(promptLookup(2, 4)([1, 2, 3, 9, 3], 4)).toEqual([]);
    expect(promptLookup(1, 4)([1, 2, 3, 9, 3], 2)).toEqual([9, 3]);
    for (const ids of [[], [1], [1, 1]]) expect(promptLookup(2, 2)(ids, 4)).toEqual([]);
  });

  it('takes the longest run of equal tokens, of equals the latest', () => {
    expect(promptLookup(1, 3)([5, 1, 2, 7, 9, 2, 8, 5, 1, 2], 1)).toEqual([7]);
    expect(promptLookup(1, 1)([5, 1, 2, 7, 9, 2, 8, 5, 1, 2], 1)).toEqual([8]);
    expect(promptLookup(2, 2)([1, 2, 7, 1, 2, 8, 1, 2], 1)).toEqual([8]);
  });

  it('goes on with a repetition', () => {
    expect(promptLookup(2, 5)([4, 4, 4, 4], 3)).toEqual([4, 4, 4]);
    expect(promptLookup(2, 4)([1, 2, 1, 2, 1, 2], 4)).toEqual([1, 2, 1, 2]);
  });
});
