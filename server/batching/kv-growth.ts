/**
 * Who gets another page of KV memory for the coming step, and who gives its own up where there is none left.
 *
 * In      sequences that would write a row, in the order in which they began, oldest first; free KV tokens
 * Out     who grows, and who is preempted: its rows are given back, and it is computed again later from its prompt and the tokens
 *         that it has already told
 * Limits  the oldest is never preempted for another; alone it always fits, since admission saw to that
 * Pure
 *
 * The youngest gives way: it has the least to compute again, and the oldest gets through, so all do.
 */
import { KV_PAGE_TOKENS } from './slot-table.js';

export interface KvHolder {
  /** KV tokens that it holds. */
  readonly kvTokens: number;
  /** That it needs for the coming step; no more than it holds: none. */
  readonly neededKvTokens: number;
}

export interface KvGrowth {
  /** Into the holders; each gets a page. */
  readonly grow: readonly number[];
  /** Into the holders, youngest first. */
  readonly preempt: readonly number[];
}

export function planGrowth(holders: readonly KvHolder[], freeKvTokens: number): KvGrowth {
  const grow: number[] = [];
  const preempt: number[] = [];
  let free = freeKvTokens;
  let left = holders.length;
  for (let index = 0; index < left; index++) {
    const { kvTokens, neededKvTokens } = holders[index]!;
    if (neededKvTokens <= kvTokens) continue;
    while (free < KV_PAGE_TOKENS && left > index + 1) {
      left--;
      preempt.push(left);
      free += holders[left]!.kvTokens;
    }
    if (free < KV_PAGE_TOKENS) {
      left = index;
      preempt.push(index);
      break;
    }
    grow.push(index);
    free -= KV_PAGE_TOKENS;
  }
  return { grow, preempt };
}
