/**
 * Greedy generation by an in-process group, one sequence after the other: prompt in chunks, then token by token.
 */
import assert from 'node:assert/strict';
import { GREEDY_SAMPLING } from '../../proto/control.js';
import type { InProcessGroup } from './in-process-group.js';

export interface GreedyRun {
  ids: number[];
  /** float32 [vocabSize] at the last prompt position. */
  promptLogits: Float32Array;
}

/** @returns a function that runs one sequence; every rank must report the same rows in every step */
export function greedyRuns(group: InProcessGroup) {
  const slot = 1;
  let step = 0;
  let sequence = 0;
  /**
   * @param chunks tokens of the prompt's steps; together the prompt
   * @param options.maxNewTokens budget told to the workers; absent: newTokens
   */
  return async (
    promptIds: number[],
    newTokens: number,
    chunks: readonly number[] = [promptIds.length],
    options: { maxNewTokens?: number } = {},
  ): Promise<GreedyRun> => {
    sequence++;
    const open = {
      slot,
      sequence,
      promptIds,
      maxNewTokens: options.maxNewTokens ?? newTokens,
      endIds: [],
      sampling: GREEDY_SAMPLING,
    };
    const ids: number[] = [];
    let promptLogits = new Float32Array(0);
    let done = 0;
    for (let index = 0; ids.length < newTokens; index++) {
      const tokens = chunks[index] ?? 1;
      const results = await group.step({
        step: ++step,
        closeSlots: [],
        opens: index === 0 ? [open] : [],
        rows: [{ slot, sequence, tokens }],
      });
      done += tokens;
      for (const result of results) assert.deepEqual(result.rows, results[0]?.rows);
      if (done === promptIds.length) promptLogits = group.logits(0).slice();
      for (const { tokenId } of results[0]?.rows[0]?.tokens ?? []) ids.push(tokenId);
    }
    await group.step({ step: ++step, closeSlots: [slot], opens: [], rows: [] });
    return { ids, promptLogits };
  };
}
