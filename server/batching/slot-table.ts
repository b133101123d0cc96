/**
 * The slots of one group and the KV memory they share.
 *
 * In      take when a sequence starts, release when it has ended; or keep it warm for the prefix cache, then retake or drop; or park it
 *         where the sequence is preempted and its rows shall stay, then unpark or dropParked
 * Out     slot numbers; `takeClosed`: slots whose memory the workers shall give back, for the next step
 * Limits  maxSlots sequences; kvTokens tokens over all of them, in pages; warmSlots slot numbers more; parked slots have a number of slots
 *         and KV tokens of their own
 * Errors  assertions: the batcher asks before it starts a job
 *
 * A released slot is free at once: the workers close before they open, so one step may do both. A warm slot reserves nothing:
 * who keeps slots warm sees to it that their rows leave in time.
 */
import assert from 'node:assert/strict';

/** KV memory is counted in pages of so many tokens. */
export const KV_PAGE_TOKENS = 64;

export const roundUpToPages = (tokens: number): number => Math.ceil(tokens / KV_PAGE_TOKENS) * KV_PAGE_TOKENS;

/** KV tokens of a job at its end. */
export const kvTokensOf = (job: { promptIds: readonly number[]; maxNewTokens: number }): number =>
  roundUpToPages(job.promptIds.length + job.maxNewTokens);

/** KV tokens a job holds when it starts: what it begins with, and a page for what it makes; it grows by pages (kv-growth.ts). */
export const kvTokensToStart = (job: { promptIds: readonly number[]; maxNewTokens: number }): number =>
  Math.min(roundUpToPages(job.promptIds.length) + KV_PAGE_TOKENS, kvTokensOf(job));

/** What rows of preempted sequences may take, beside those of the ones that run. */
export interface SwapLimits {
  readonly slots: number;
  /** In whole pages. */
  readonly kvTokens: number;
}

const NO_SWAP: SwapLimits = { slots: 0, kvTokens: 0 };

export class SlotTable {
  readonly maxSlots: number;
  readonly kvTokens: number;
  readonly warmSlots: number;
  readonly #free: number[];
  /** Slot → KV tokens it holds. */
  readonly #taken = new Map<number, number>();
  readonly #warm = new Set<number>();
  readonly #swap: SwapLimits;
  /** Slot → KV tokens of the swap space that it holds. */
  readonly #parked = new Map<number, number>();
  #closed: number[] = [];
  #freeKvTokens: number;

  /**
   * @param kvTokens over all slots; rounded down to pages
   * @param warmSlots slots beside those of sequences
   */
  constructor(maxSlots: number, kvTokens: number, warmSlots = 0, swap = NO_SWAP) {
    this.#swap = swap;
    this.maxSlots = maxSlots;
    this.warmSlots = warmSlots;
    this.kvTokens = Math.floor(kvTokens / KV_PAGE_TOKENS) * KV_PAGE_TOKENS;
    this.#freeKvTokens = this.kvTokens;
    const numbers = maxSlots + warmSlots + swap.slots;
    this.#free = Array.from({ length: numbers }, (_, index) => numbers - 1 - index);
  }

  /** Sequences that may start. */
  get freeSlots(): number {
    return this.maxSlots - this.#taken.size;
  }

  /** Slots that are neither taken nor warm nor parked. */
  get freeNumbers(): number {
    return this.#free.length;
  }

  get freeKvTokens(): number {
    return this.#freeKvTokens;
  }

  /** The slot used last comes first: its pages are the likeliest to be in a cache. */
  take(kvTokens: number): number {
    const slot = this.freeSlots > 0 ? this.#free.pop() : undefined;
    assert(slot !== undefined, 'no slot is free');
    this.#reserve(slot, kvTokens);
    return slot;
  }

  /** KV tokens that a taken slot holds. */
  held(slot: number): number {
    const kvTokens = this.#taken.get(slot);
    assert(kvTokens !== undefined, `slot ${slot} is not taken`);
    return kvTokens;
  }

  /** A page more for a taken slot. */
  grow(slot: number): void {
    const kvTokens = this.held(slot);
    this.#giveBack(slot);
    this.#reserve(slot, kvTokens + KV_PAGE_TOKENS);
  }

  release(slot: number): void {
    this.#giveBack(slot);
    this.#close(slot);
  }

  /** The sequence has ended, its rows stay. */
  keep(slot: number): void {
    this.#giveBack(slot);
    this.#warm.add(slot);
  }

  /** A warm slot for a new sequence. */
  retake(slot: number, kvTokens: number): void {
    assert(this.freeSlots > 0 && this.#warm.delete(slot), `slot ${slot} is not warm, or no slot is free`);
    this.#reserve(slot, kvTokens);
  }

  /** The rows of a warm slot are not wanted any more. */
  drop(slot: number): void {
    assert(this.#warm.delete(slot), `slot ${slot} is not warm`);
    this.#close(slot);
  }

  /** KV tokens of parked slots. */
  get parkedKvTokens(): number {
    let sum = 0;
    for (const kvTokens of this.#parked.values()) sum += kvTokens;
    return sum;
  }

  /**
   * The sequence of a taken slot is preempted, and its rows stay: they count in the swap space now.
   *
   * @param kvTokens that its rows take, in whole pages
   * @returns false: the swap space has no room, and the slot stays taken
   */
  park(slot: number, kvTokens: number): boolean {
    const { kvTokens: most, slots } = this.#swap;
    if (this.#parked.size >= slots || this.parkedKvTokens + kvTokens > most) return false;
    this.#giveBack(slot);
    this.#parked.set(slot, kvTokens);
    return true;
  }

  /** The sequence of a parked slot goes on. */
  unpark(slot: number, kvTokens: number): void {
    assert(this.freeSlots > 0 && this.#parked.delete(slot), `slot ${slot} is not parked, or no slot is free`);
    this.#reserve(slot, kvTokens);
  }

  /** The sequence of a parked slot will not go on. */
  dropParked(slot: number): void {
    assert(this.#parked.delete(slot), `slot ${slot} is not parked`);
    this.#close(slot);
  }

  #reserve(slot: number, kvTokens: number): void {
    assert(kvTokens <= this.#freeKvTokens, `${kvTokens} KV tokens asked of ${this.#freeKvTokens} free ones`);
    this.#taken.set(slot, kvTokens);
    this.#freeKvTokens -= kvTokens;
  }

  #giveBack(slot: number): void {
    const kvTokens = this.#taken.get(slot);
    assert(kvTokens !== undefined, `slot ${slot} is not taken`);
    this.#taken.delete(slot);
    this.#freeKvTokens += kvTokens;
  }

  #close(slot: number): void {
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
