/**
 * The slots of one group and the KV memory they share (design D4).
 *
 * In      take when a sequence starts, release when it has ended
 * Out     slot numbers; `takeClosed`: slots whose memory the workers shall give back, for the next step
 * Limits  maxSlots sequences; kvTokens tokens over all of them, in pages
 * Errors  assertions: the batcher asks before it starts a job
 *
 * A released slot is free at once: the workers close before they open, so one step may do both.
 */
import assert from 'node:assert/strict';

/** KV memory is counted in pages of so many tokens. */
export const KV_PAGE_TOKENS = 64;

export const roundUpToPages = (tokens: number): number => Math.ceil(tokens / KV_PAGE_TOKENS) * KV_PAGE_TOKENS;

/** KV tokens a job reserves from its start to its end: it can never run out in between. */
export const kvTokensOf = (job: { promptIds: readonly number[]; maxNewTokens: number }): number =>
  roundUpToPages(job.promptIds.length + job.maxNewTokens);

export class SlotTable {
  readonly maxSlots: number;
  readonly kvTokens: number;
  readonly #free: number[];
  /** Slot → KV tokens it holds. */
  readonly #taken = new Map<number, number>();
  #closed: number[] = [];
  #freeKvTokens: number;

  /** @param kvTokens over all slots; rounded down to pages */
  constructor(maxSlots: number, kvTokens: number) {
    this.maxSlots = maxSlots;
    this.kvTokens = Math.floor(kvTokens / KV_PAGE_TOKENS) * KV_PAGE_TOKENS;
    this.#freeKvTokens = this.kvTokens;
    this.#free = Array.from({ length: maxSlots }, (_, index) => maxSlots - 1 - index);
  }

  get freeSlots(): number {
    return this.#free.length;
  }

  get freeKvTokens(): number {
    return this.#freeKvTokens;
  }

  /** The slot used last comes first: its pages are the likeliest to be in a cache. */
  take(kvTokens: number): number {
    assert(kvTokens <= this.#freeKvTokens, `${kvTokens} KV tokens asked of ${this.#freeKvTokens} free ones`);
    const slot = this.#free.pop();
    assert(slot !== undefined, 'no slot is free');
    this.#taken.set(slot, kvTokens);
    this.#freeKvTokens -= kvTokens;
    return slot;
  }

  release(slot: number): void {
    const kvTokens = this.#taken.get(slot);
    assert(kvTokens !== undefined, `slot ${slot} is not taken`);
    this.#taken.delete(slot);
    this.#freeKvTokens += kvTokens;
    this.#free.push(slot);
    this.#closed.push(slot);
  }

  get hasClosed(): boolean {
    return this.#closed.length > 0;
  }

  /** Released since the last call. */
  takeClosed(): number[] {
    const closed = this.#closed;
    this.#closed = [];
    return closed;
  }
}
