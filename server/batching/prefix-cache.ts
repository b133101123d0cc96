/**
 * The prefix cache of one group: a prompt that begins like another is not computed again as far as both go.
 *
 * In      jobs that start, sequences that leave; a SlotTable with warm slots
 * Out     slots for them, rows that need not be computed, and the copies of a step
 * Limits  the slot table's: warm rows fill only KV memory that no row of a running sequence is in, and the least recently used
 *         go first; an entry a slot in the index
 * Errors  assertions
 * Pure    no clock
 *
 * The slot of a sequence that ended stays warm: its rows stay where they are. A prompt that goes on behind all of them (the
 * next turn of a chat) takes the slot over. One that shares a part (a system prompt) gets the rows copied, which leaves the
 * donor warm; it takes over as well where there is no room for both. A running sequence is a donor too, as far as its prompt
 * was planned: steps run in order, so those rows are there before the next step. A prompt that could share with one that is
 * just being computed is held until that one is through the shared part, as long as it gets on with every step.
 *
 * What running sequences hold is not touched by it: the slot table counts it as if nothing were warm, and warm rows leave when the
 * running sequences write their own. Rows are shared only between sequences of the same tenant whose positions count alike.
 */
import assert from 'node:assert/strict';
import type { RowCopy } from '../../proto/control.js';
import type { GenerationJob } from '../jobs/generation-job.js';
import type { WaitingJob } from './batcher.js';
import { PrefixIndex } from './prefix-index.js';
import type { Sequence } from './sequence.js';
import { kvTokensOf, kvTokensToStart, roundUpToPages, type SlotTable } from './slot-table.js';

/** Fewer shared tokens are not worth a slot: they share a step with the rest of the prompt. */
export const MIN_PREFIX_TOKENS = 16;

/** Rows of a sequence that has ended. */
interface WarmSlot {
  sequence: number;
  domain: string;
  ids: readonly number[];
  /** KV tokens that it takes, in whole pages: steps planned ahead may have written rows behind the known ones. */
  kvTokens: number;
}

interface Donor {
  slot: number;
  sequence: number;
  /** First tokens that are there and shared. */
  rows: number;
  /** null: it runs. */
  warm: WarmSlot | null;
}

interface PlannedCopy {
  donor: Donor;
  to: Sequence;
  rowsBefore: number;
}

/** A prompt that waits for another's. */
interface Hold {
  donor: Sequence;
  /** So many of the donor's. */
  wantedRows: number;
  /** The donor was left out of a step. */
  stalled: boolean;
}

/** Where a sequence begins. */
export interface Place {
  slot: number;
  /** Rows of the slot that stay: it was warm. */
  keptRows: number;
}

export interface PrefixCacheOptions {
  slots: SlotTable;
  /** Sequences that may become longer count their positions otherwise (LongRoPE); null: all count alike. */
  longAfterTokens: number | null;
}

export class PrefixCache {
  readonly #slots: SlotTable;
  readonly #longAfterTokens: number | null;
  readonly #indexes = new Map<string, PrefixIndex>();
  readonly #running = new Map<number, Sequence>();
  /** Least recently used first. */
  readonly #warm = new Map<number, WarmSlot>();
  readonly #holds = new Map<Sequence, Hold>();
  #copies: PlannedCopy[] = [];
  /** Where the sequence that is being placed gets its rows. */
  #placing: Donor | null = null;

  constructor({ longAfterTokens, slots }: PrefixCacheOptions) {
    this.#slots = slots;
    this.#longAfterTokens = longAfterTokens;
  }

  /** KV tokens of warm slots, in whole pages. */
  get warmTokens(): number {
    let tokens = 0;
    for (const { kvTokens } of this.#warm.values()) tokens += kvTokens;
    return tokens;
  }

  get warmSlots(): number {
    return this.#warm.size;
  }

  /** A slot for a job that starts; `begin` follows, with its sequence. @param input of one that was preempted */
  place(job: GenerationJob, { maxNewTokens, promptIds }: WaitingJob = job): Place {
    const donor = this.#bestDonor(this.#domainOf(job), promptIds, 0);
    this.#placing = donor;
    const kvTokens = kvTokensToStart({ promptIds, maxNewTokens });
    if (!donor) return { slot: this.#takeSlot(kvTokens, null), keptRows: 0 };
    if (donor.warm) {
      const isWhole = donor.rows === donor.warm.ids.length;
      if (!this.#isPinned(donor.slot) && (isWhole || !this.#hasRoomForBoth(donor, job))) {
        this.#placing = null;
        this.#forgetWarm(donor.slot);
        this.#slots.retake(donor.slot, kvTokens);
        return { slot: donor.slot, keptRows: donor.rows };
      }
      // The most recently used one now.
      this.#warm.delete(donor.slot);
      this.#warm.set(donor.slot, donor.warm);
    }
    return { slot: this.#takeSlot(kvTokens, donor.slot), keptRows: 0 };
  }

  /** The sequence that `place` was asked for has begun. */
  begin(sequence: Sequence, { keptRows }: Place): void {
    const donor = this.#placing;
    this.#placing = null;
    if (keptRows > 0) sequence.skipTo(keptRows);
    else if (donor) this.#planCopy(donor, sequence);
    this.#hold(sequence);
    this.#running.set(sequence.slot, sequence);
    this.#index(this.#domainOf(sequence.job)).add(sequence.slot, sequence.inputIds);
  }

  /** Lets those go on whose wait is over. Before each plan of a step. */
  releaseHeld(): void {
    for (const [sequence, hold] of this.#holds) {
      const { donor, stalled, wantedRows } = hold;
      const runs = this.#running.get(donor.slot) === donor;
      if (runs && !stalled && this.#rowsThere(donor) < wantedRows) continue;
      this.#holds.delete(sequence);
      sequence.held = false;
      const best = this.#bestDonor(this.#domainOf(sequence.job), sequence.inputIds, sequence.promptRows);
      if (best) this.#planCopy(best, sequence);
    }
  }

  /**
   * The copies of the step that is being planned, after warm rows have made room for the rows that it can write.
   *
   * @param prefillTokens prompt tokens of the step at most
   */
  takeCopies(prefillTokens: number): RowCopy[] {
    this.#makeRoom(prefillTokens);
    const copies = this.#copies.map(({ donor, to }) => ({
      fromSlot: donor.slot,
      fromSequence: donor.sequence,
      toSlot: to.slot,
      toSequence: to.sequence,
      rows: donor.rows,
    }));
    this.#copies = [];
    return copies;
  }

  /** A step goes out with these rows: who waits for a prompt that is not among them waits no longer, unless that one waits too. */
  stepPlanned(rows: readonly { slot: number }[]): void {
    if (this.#holds.size === 0) return;
    const slots = new Set(rows.map(({ slot }) => slot));
    for (const hold of this.#holds.values()) {
      if (!slots.has(hold.donor.slot) && !hold.donor.held) hold.stalled = true;
    }
  }

  /** A sequence has ended: its slot stays warm if its rows can be of use. @param usable false: the group is lost */
  leave(sequence: Sequence, usable: boolean): void {
    const { job, slot } = sequence;
    const domain = this.#domainOf(job);
    this.#copies = this.#copies.filter(({ rowsBefore, to }) => {
      // It was promised rows that never came.
      if (to === sequence) to.skipTo(rowsBefore);
      return to !== sequence;
    });
    this.forget(sequence);
    const ids = sequence.rowIds();
    const keeps = usable && (this.#isPinned(slot) || this.#isOfUse(domain, ids));
    if (!keeps || this.#slots.warmSlots === 0) {
      this.#slots.release(slot);
      return;
    }
    this.#slots.keep(slot);
    const kvTokens = roundUpToPages(sequence.plannedRows + sequence.mostDrafts);
    this.#warm.set(slot, { sequence: sequence.sequence, domain, ids, kvTokens });
    this.#index(domain).add(slot, ids);
  }

  /** Rows are to be copied to its slot, or from it. */
  hasCopies(sequence: Sequence): boolean {
    return this.#isPinned(sequence.slot) || this.#copies.some(({ to }) => to === sequence);
  }

  /** A sequence without copies leaves, and its rows are nobody else's. */
  forget(sequence: Sequence): void {
    this.#running.delete(sequence.slot);
    this.#holds.delete(sequence);
    this.#removeEntry(this.#domainOf(sequence.job), sequence.slot);
  }

  /** A tenant's prompts of one way to count positions: rows are never shared between two of them. */
  #domainOf(job: GenerationJob): string {
    const isLong =
      this.#longAfterTokens !== null && job.promptIds.length + job.maxNewTokens > this.#longAfterTokens;
    assert(job.request.kind === 'generate', 'a text that is embedded keeps no rows');
    return JSON.stringify([isLong, job.request.cacheSalt ?? null]);
  }

  #index(domain: string): PrefixIndex {
    let index = this.#indexes.get(domain);
    if (!index) {
      index = new PrefixIndex();
      this.#indexes.set(domain, index);
    }
    return index;
  }

  #removeEntry(domain: string, slot: number): void {
    const index = this.#index(domain);
    index.remove(slot);
    if (index.size === 0) this.#indexes.delete(domain);
  }

  /** Who has most of the prompt beyond `hasRows`; of equals a warm slot that is shared whole, then the latest used. */
  #bestDonor(domain: string, promptIds: readonly number[], hasRows: number): Donor | null {
    let best: Donor | null = null;
    let bestIsWhole = false;
    const shared = this.#indexes.get(domain)?.shared(promptIds) ?? [];
    for (const [slot, tokens] of shared) {
      const warm = this.#warm.get(slot) ?? null;
      const running = this.#running.get(slot);
      const there = warm ? warm.ids.length : running ? this.#rowsThere(running) : 0;
      // The last token of the prompt is always computed: its logits are wanted.
      const rows = Math.min(tokens, there, promptIds.length - 1);
      if (rows < hasRows + MIN_PREFIX_TOKENS || rows < (best?.rows ?? 0)) continue;
      const isWhole = warm !== null && rows === warm.ids.length && !this.#isPinned(slot);
      if (best && rows === best.rows && bestIsWhole && !isWhole) continue;
      const sequence = warm?.sequence ?? running?.sequence;
      assert(sequence !== undefined, `slot ${slot} of the index is warm or runs`);
      best = { slot, sequence, rows, warm };
      bestIsWhole = isWhole;
    }
    return best;
  }

  /** Rows of a running sequence's prompt that others may have: not those that it is promised itself. */
  #rowsThere(running: Sequence): number {
    return this.#copies.find(({ to }) => to === running)?.rowsBefore ?? running.promptRows;
  }

  #planCopy(donor: Donor, to: Sequence): void {
    this.#copies.push({ donor, to, rowsBefore: to.promptRows });
    to.skipTo(donor.rows);
  }

  /** Waits for a running sequence that will have computed more of the prompt than there is now. */
  #hold(sequence: Sequence): void {
    const promptIds = sequence.inputIds;
    const shared = this.#indexes.get(this.#domainOf(sequence.job))?.shared(promptIds) ?? [];
    let donor: Sequence | null = null;
    let wantedRows = sequence.promptRows + MIN_PREFIX_TOKENS - 1;
    for (const [slot, tokens] of shared) {
      const running = this.#running.get(slot);
      const rows = Math.min(tokens, promptIds.length - 1);
      if (!running || running.promptLeft === 0 || rows <= wantedRows) continue;
      donor = running;
      wantedRows = rows;
    }
    if (!donor) return;
    sequence.held = true;
    this.#holds.set(sequence, { donor, wantedRows, stalled: false });
  }

  /** A part of the KV memory that the job and its donor could both be in, now. */
  #hasRoomForBoth(donor: Donor, job: GenerationJob): boolean {
    const { freeNumbers, kvTokens } = this.#slots;
    const warm = new Set([...this.#pinned(), donor.slot]);
    const isNumberFree = freeNumbers > 0 || this.#warm.size > warm.size;
    let tokens = Math.min(kvTokensOf(job), roundUpToPages(donor.rows + MIN_PREFIX_TOKENS));
    for (const slot of warm) tokens += this.#warm.get(slot)?.kvTokens ?? 0;
    for (const sequence of this.#running.values()) tokens += mostTokens(sequence, MIN_PREFIX_TOKENS);
    return isNumberFree && tokens <= kvTokens;
  }

  /** @param spared slot that must not be given up for it */
  #takeSlot(kvTokens: number, spared: number | null): number {
    if (this.#slots.freeNumbers === 0) {
      const slots = [...this.#warm.keys()].filter((slot) => slot !== spared);
      const pinned = this.#pinned();
      const oldest = slots.find((slot) => !pinned.has(slot)) ?? slots[0];
      assert(oldest !== undefined, 'there are more slots than sequences that run');
      this.#drop(oldest);
    }
    return this.#slots.take(kvTokens);
  }

  /** Gives up the least recently used warm slots until all rows of the coming step fit, and copies from them if it must be. */
  #makeRoom(prefillTokens: number): void {
    let warmTokens = this.warmTokens;
    if (warmTokens === 0) return;
    let used = 0;
    for (const sequence of this.#running.values()) used += mostTokens(sequence, prefillTokens);
    for (const allowPinned of [false, true]) {
      for (const [slot, { kvTokens }] of this.#warm) {
        if (used + warmTokens <= this.#slots.kvTokens) return;
        if (!allowPinned && this.#isPinned(slot)) continue;
        warmTokens -= kvTokens;
        this.#drop(slot);
      }
    }
  }

  /** Slots that copies of the coming step are made from. */
  #pinned(): Set<number> {
    return new Set(this.#copies.map(({ donor }) => donor.slot));
  }

  #isPinned(slot: number): boolean {
    return this.#copies.some(({ donor }) => donor.slot === slot);
  }

  /** Rows are worth keeping unless another slot has them all; slots that have but a part of them are given up. */
  #isOfUse(domain: string, ids: readonly number[]): boolean {
    if (ids.length < MIN_PREFIX_TOKENS) return false;
    const shared = this.#indexes.get(domain)?.shared(ids) ?? [];
    for (const [slot, tokens] of shared) {
      const warm = this.#warm.get(slot);
      if (!warm) continue;
      if (tokens === ids.length) {
        this.#warm.delete(slot);
        this.#warm.set(slot, warm);
        return false;
      }
      if (tokens === warm.ids.length && !this.#isPinned(slot)) this.#drop(slot);
    }
    return true;
  }

  /** Who was to get rows of it computes them. */
  #drop(slot: number): void {
    this.#copies = this.#copies.filter(({ donor, rowsBefore, to }) => {
      if (donor.slot === slot) to.skipTo(rowsBefore);
      return donor.slot !== slot;
    });
    this.#forgetWarm(slot);
    this.#slots.drop(slot);
  }

  #forgetWarm(slot: number): void {
    const warm = this.#warm.get(slot);
    assert(warm, `slot ${slot} is warm`);
    this.#warm.delete(slot);
    this.#removeEntry(warm.domain, slot);
  }
}

/** KV tokens that a running sequence can hold after the coming step, in whole pages. */
function mostTokens(sequence: Sequence, prefillTokens: number): number {
  const growth = (sequence.promptLeft > 0 ? prefillTokens : 1) + sequence.mostDrafts;
  return Math.min(kvTokensOf(sequence.job), roundUpToPages(sequence.plannedRows + growth));
}
