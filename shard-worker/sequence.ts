/**
 * One running sequence as every rank sees it: the same fields with the same values on all ranks, step by step.
 */
import type { Finish, Sampling, SequenceOpen, TokenMask } from '../proto/control.js';
import { Finish as FinishCode } from '../proto/control.js';

/** What a choice needs of a sequence. */
export interface ChooseSequence {
  readonly promptIds: readonly number[];
  readonly newIds: readonly number[];
  readonly endIds: ReadonlySet<number>;
  readonly sampling: Sampling;
  readonly sequence?: number;
  readonly mask?: TokenMask | null;
  readonly forcedIds?: readonly number[];
}

export class Sequence implements ChooseSequence {
  readonly slot: number;
  /** Unique in the life of the group. */
  readonly sequence: number;
  readonly promptIds: readonly number[];
  readonly newIds: number[];
  /** The first of the new tokens are these, whatever is chosen. */
  readonly forcedIds: readonly number[];
  readonly maxNewTokens: number;
  readonly endIds: ReadonlySet<number>;
  readonly sampling: Sampling;
  /** Where the second of two texts begins; null: there is none. */
  readonly secondTextAt: number | null;
  /** Bounds the token that is chosen next; null: any. */
  mask: TokenMask | null = null;
  /** The mask of the row that runs comes in a message of its own. */
  maskFollows = false;
  /** Guesses of the tokens to come, while a step runs that tries them. */
  draftIds: readonly number[] = [];
  /** Tokens whose keys and values are in the slot. */
  processed = 0;
  finish: Finish = FinishCode.RUNNING;

  constructor(open: SequenceOpen) {
    this.slot = open.slot;
    this.sequence = open.sequence;
    this.promptIds = open.promptIds;
    this.newIds = [...(open.newIds ?? [])];
    this.forcedIds = open.forcedIds ?? [];
    this.maxNewTokens = open.maxNewTokens;
    this.endIds = new Set(open.endIds);
    this.sampling = open.sampling;
    // 0 in a frame: none.
    this.secondTextAt = open.secondTextAt || null;
  }

  get length(): number {
    return this.promptIds.length + this.newIds.length;
  }

  /** Token at a position of prompt and new tokens, and the drafts behind them, together. */
  idAt(position: number): number {
    const id =
      position < this.promptIds.length
        ? this.promptIds[position]
        : (this.newIds[position - this.promptIds.length] ?? this.draftIds[position - this.length]);
    if (id === undefined) throw new Error(`sequence ${this.sequence} has no token at position ${position}`);
    return id;
  }

  /** What a choice sees behind the first `drafts` drafts, as if they had been chosen. */
  behind(drafts: number): ChooseSequence {
    if (drafts === 0) return this;
    const { endIds, forcedIds, newIds, promptIds, sampling, sequence } = this;
    const ids = [...newIds, ...this.draftIds.slice(0, drafts)];
    return { endIds, forcedIds, newIds: ids, promptIds, sampling, sequence };
  }

  /** Append a chosen token; ends the sequence at an end id or its token budget. */
  append(id: number): void {
    this.newIds.push(id);
    const isForced = this.newIds.length <= this.forcedIds.length;
    if (this.endIds.has(id) && !isForced) this.finish = FinishCode.END_ID;
    else if (this.newIds.length >= this.maxNewTokens) this.finish = FinishCode.LENGTH;
  }

  /** No token can be chosen: ends the sequence. */
  fail(): void {
    this.finish = FinishCode.FAILED;
  }
}
