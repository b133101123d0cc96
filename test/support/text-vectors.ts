/** Vectors of texts from a group in this process: texts open and run in the same step, and close in the next. */
import assert from 'node:assert/strict';
import { GREEDY_SAMPLING, type StepResult } from '../../proto/control.js';
import type { GoldenText } from './golden-encoders.js';
import type { InProcessGroup } from './in-process-group.js';

/** @returns what makes a step of texts and gives their vectors */
export function textVectors(
  group: InProcessGroup,
): (prompts: readonly Pick<GoldenText, 'ids' | 'secondTextAt'>[]) => Promise<number[][]> {
  let step = 0;
  let sequence = 0;
  let opened: number[] = [];
  return async (prompts) => {
    const opens = prompts.map(({ ids: promptIds, secondTextAt }, slot) => ({
      ...{ slot, sequence: ++sequence, promptIds, maxNewTokens: 0, endIds: [] },
      ...(secondTextAt === undefined ? {} : { secondTextAt }),
      sampling: GREEDY_SAMPLING,
    }));
    const rows = opens.map((open) => ({
      slot: open.slot,
      sequence: open.sequence,
      tokens: open.promptIds.length,
    }));
    const results: StepResult[] = await group.step({ step: ++step, closeSlots: opened, opens, rows });
    opened = opens.map(({ slot }) => slot);
    for (const result of results) assert.deepEqual(result.rows, results[0]?.rows);
    return (results[0]?.rows ?? []).map(({ tokens, vector }) => {
      assert.deepEqual(tokens, []);
      return vector;
    });
  };
}
