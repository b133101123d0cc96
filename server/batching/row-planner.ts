/**
 * Who runs how many tokens in a step: one for each decode, and the prompt tokens of the step shared among the prefills.
 *
 * In      sequences, oldest first; the step's prompt tokens
 * Out     rows, decodes first
 * Pure    the batchers share it
 *
 * Sharing the prompt tokens, shortest first: half go to the oldest prompt, the rest to the shortest ones (the older of two
 * equals first), and what is left over to the oldest again. The oldest always moves, so nobody starves; a short prompt behind a
 * long one gets through in a step or two; prompts of equal length run one after the other, as many in a step as its tokens
 * hold, which is the best mean time to the first token there is.
 * Fair: the same for each, the oldest first where there is not a token for each; what a short one leaves is the others'.
 */
import type { BatcherState, BatchRow, RunningSequence, WaitingJob } from './batcher.js';
import { kvTokensToStart } from './slot-table.js';

export type PromptOrder = 'shortest' | 'fair';

interface Prompt {
  readonly index: number;
  /** Tokens that it wants. */
  readonly left: number;
  /** That it gets. */
  tokens: number;
}

export function planRows(
  sequences: readonly RunningSequence[],
  { prefillTokens, wholePrompts = false }: Pick<BatcherState, 'prefillTokens' | 'wholePrompts'>,
  order: PromptOrder = 'shortest',
): BatchRow[] {
  if (wholePrompts) return planWholePrompts(sequences, prefillTokens);
  const decodes: BatchRow[] = [];
  const prompts: Prompt[] = [];
  sequences.forEach((sequence, index) => {
    if (sequence.held || sequence.awaits) return;
    if (sequence.promptLeft > 0) prompts.push({ index, left: sequence.promptLeft, tokens: 0 });
    else if (sequence.decodesLeft > 0) decodes.push({ index, tokens: 1 });
  });
  if (order === 'fair') shareEqually(prompts, prefillTokens);
  else shareByLength(prompts, prefillTokens);
  const running = prompts.filter((prompt) => prompt.tokens > 0);
  return [...decodes, ...running.map(({ index, tokens }) => ({ index, tokens }))];
}

function shareEqually(prompts: readonly Prompt[], prefillTokens: number): void {
  let budget = prefillTokens;
  // Oldest first: where there is not a token for each, the youngest wait.
  const served = prompts.slice(0, budget);
  let sharers = served.length;
  // The shortest first: what it leaves is shared by those behind it.
  for (const prompt of served.sort((a, b) => a.left - b.left || a.index - b.index)) {
    prompt.tokens = Math.min(prompt.left, Math.floor(budget / sharers));
    budget -= prompt.tokens;
    sharers--;
  }
}

function shareByLength(prompts: readonly Prompt[], prefillTokens: number): void {
  let budget = prefillTokens;
  /** @param limit within the budget */
  const give = (prompt: Prompt, limit: number): void => {
    const tokens = Math.min(prompt.left - prompt.tokens, limit);
    prompt.tokens += tokens;
    budget -= tokens;
  };
  const oldest = prompts[0];
  if (oldest) {
    give(oldest, Math.ceil(prefillTokens / 2));
    for (const prompt of prompts.slice(1).sort((a, b) => a.left - b.left || a.index - b.index)) {
      give(prompt, budget);
    }
    give(oldest, budget);
  }
}

/** The oldest, whatever its length, and of the others in their order those that fit beside it. */
function planWholePrompts(sequences: readonly RunningSequence[], prefillTokens: number): BatchRow[] {
  const rows: BatchRow[] = [];
  let left = prefillTokens;
  sequences.forEach(({ awaits = false, promptLeft }, index) => {
    if (awaits || promptLeft === 0 || (rows.length > 0 && promptLeft > left)) return;
    rows.push({ index, tokens: promptLeft });
    left -= promptLeft;
  });
  return rows;
}

/** How many jobs from the front fit, at most `limit`. The first that does not fit holds back those behind it. */
export function countStarts(
  waiting: readonly WaitingJob[],
  limit: number,
  freeSlots: number,
  freeKvTokens: number,
): number {
  let starts = 0;
  let tokens = freeKvTokens;
  for (const job of waiting) {
    if (starts >= Math.min(limit, freeSlots)) break;
    tokens -= kvTokensToStart(job);
    if (tokens < 0) break;
    starts++;
  }
  return starts;
}

/** The sequence that a waiting job becomes. */
export const asStarted = (job: WaitingJob): RunningSequence => ({
  promptLeft: job.promptIds.length - (job.keptRows ?? 0),
  decodesLeft: job.maxNewTokens - 1,
});
