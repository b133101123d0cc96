/**
 * A rank without a model: holds the coordinator to its contract and answers with tokens that follow from the prompt alone.
 *
 * In      steps, in order
 * Out     StepResult; the n-th new token of a sequence is fakeToken(prompt, n), in whatever batch it runs
 * Errors  an AssertionError for each rule of control.proto that a step breaks
 */
import assert from 'node:assert/strict';
import {
  type ChosenToken,
  Finish,
  type LateMask,
  type Row,
  type RowCopy,
  type RowResult,
  type SequenceOpen,
  type Step,
  type StepResult,
  type TokenMask,
} from '../../proto/control.js';

export const FAKE_VOCAB = 512;

/** A prompt that ends with it: no token can be chosen for the first place. */
export const UNCHOOSABLE_ID = 1_000_000;

export const fakeToken = (promptIds: readonly number[], n: number): number =>
  (promptIds[n % promptIds.length]! + n + 1) % FAKE_VOCAB;

/** All tokens of a request that runs alone. @param forced so many are told of the prompt, and end nothing */
export function fakeTokens(
  promptIds: readonly number[],
  maxNewTokens: number,
  endIds: readonly number[] = [],
  forced = 0,
) {
  const ids: number[] = [];
  while (ids.length < maxNewTokens) {
    ids.push(fakeToken(promptIds, ids.length));
    if (endIds.includes(ids.at(-1)!) && ids.length > forced) break;
  }
  return ids;
}

interface FakeSequence extends SequenceOpen {
  processed: number;
  newTokens: number;
  finish: Finish;
}

export interface FakeRankOptions {
  maxSlots: number;
  slotTokens: number;
  maxStepTokens: number;
  /** Absent: no limit. */
  kvTokens?: number;
  /** Absent: 0. */
  maxDrafts?: number;
  /** Where a row has a mask its token must be allowed by it. Absent: masks say nothing. */
  obeysMasks?: boolean;
  /** Whether each token behind a prompt must have a mask, its own or one that follows. Absent: none must. */
  needsMask?: (promptIds: readonly number[]) => boolean;
}

const PAGE_TOKENS = 64;

export class FakeRank {
  readonly maxSlots: number;
  readonly slotTokens: number;
  readonly maxStepTokens: number;
  readonly maxDrafts: number;
  readonly #obeysMasks: boolean;
  readonly #needsMask: (promptIds: readonly number[]) => boolean;
  /** Rows of all open slots together, in pages. */
  readonly kvTokens: number;
  /** Rows that were not computed. */
  sharedRows = 0;
  readonly #sequences = new Map<number, FakeSequence>();
  readonly #seen = new Set<number>();
  /** By sequence, masks that came behind the step of their row, not taken yet; null: the row is left out. */
  readonly #lateMasks = new Map<number, (TokenMask | null)[]>();
  #lastStep = 0;

  constructor(options: FakeRankOptions) {
    this.maxSlots = options.maxSlots;
    this.slotTokens = options.slotTokens;
    this.maxStepTokens = options.maxStepTokens;
    this.maxDrafts = options.maxDrafts ?? 0;
    this.#obeysMasks = options.obeysMasks ?? false;
    this.#needsMask = options.needsMask ?? (() => false);
    this.kvTokens = options.kvTokens ?? Number.POSITIVE_INFINITY;
  }

  get openSlots(): number[] {
    return [...this.#sequences.keys()].sort((a, b) => a - b);
  }

  run(step: Step): StepResult {
    assert.equal(step.step, this.#lastStep + 1, 'steps come in order');
    this.#lastStep = step.step;
    for (const slot of step.closeSlots) {
      this.#lateMasks.delete(this.#sequences.get(slot)?.sequence ?? 0);
      assert(this.#sequences.delete(slot), `slot ${slot} is open`);
    }
    for (const open of step.opens) this.#open(open);
    for (const copy of step.copies ?? []) this.#copy(copy);
    assert.equal(new Set(step.rows.map((row) => row.slot)).size, step.rows.length, 'a slot runs once a step');
    const draftsOf = (row: Row): number => row.draftIds?.length ?? 0;
    const tokens = step.rows.reduce((sum, row) => sum + row.tokens + draftsOf(row), 0);
    const drafts = step.rows.reduce((sum, row) => sum + draftsOf(row), 0);
    assert(drafts <= this.maxDrafts, `${drafts} drafts in a step of at most ${this.maxDrafts}`);
    assert(tokens <= this.maxStepTokens, `${tokens} tokens in a step of at most ${this.maxStepTokens}`);
    // While a step runs, drafts have rows, right or wrong.
    const most = new Map(step.rows.map((row) => [row.slot, draftsOf(row)]));
    const before = new Map([...this.#sequences].map(([slot, { processed }]) => [slot, processed]));
    const rows = step.rows.map((row) => this.#row(row));
    const counts = new Map(step.rows.map((row) => [row.slot, row.tokens]));
    const pages = [...this.#sequences].map(([slot, { processed }]) =>
      Math.ceil(
        Math.max(processed, before.get(slot)! + (counts.get(slot) ?? 0) + (most.get(slot) ?? 0)) /
          PAGE_TOKENS,
      ),
    );
    const kvTokens = pages.reduce((sum, count) => sum + count, 0) * PAGE_TOKENS;
    assert(kvTokens <= this.kvTokens, `${kvTokens} KV tokens of ${this.kvTokens}`);
    return { step: step.step, rows, computeUs: 1000 * tokens, collectiveUs: 0, chooseUs: 0 };
  }

  /** Behind the step of the rows that they are for. */
  tellMasks(masks: readonly LateMask[]): void {
    for (const { mask, sequence } of masks)
      this.#lateMasks.set(sequence, [...(this.#lateMasks.get(sequence) ?? []), mask]);
  }

  /** Masks that the rows of a step wait for, which is the next. */
  missingMasks({ rows }: Pick<Step, 'rows'>): number {
    const isMissing = ({ maskFollows = false, sequence, slot }: Row): boolean =>
      maskFollows &&
      this.#sequences.get(slot)?.finish === Finish.RUNNING &&
      (this.#lateMasks.get(sequence) ?? []).length === 0;
    return rows.filter(isMissing).length;
  }

  #open(open: SequenceOpen): void {
    assert(open.slot >= 0 && open.slot < this.maxSlots, `slot ${open.slot} of ${this.maxSlots}`);
    const { keptRows = 0 } = open;
    const warm = this.#sequences.get(open.slot);
    assert((warm === undefined) === (keptRows === 0), `slot ${open.slot} is free, or warm`);
    assert(!this.#seen.has(open.sequence), `sequence ${open.sequence} is new`);
    assert(
      open.promptIds.length > 0 && open.maxNewTokens > 0,
      'a sequence has a prompt and may have a token',
    );
    assert(open.promptIds.length + open.maxNewTokens <= this.slotTokens, 'a sequence fits its slot');
    this.#seen.add(open.sequence);
    const { newIds = [] } = open;
    assert(newIds.length < open.maxNewTokens, 'a sequence may have a token more');
    newIds.forEach((id, index) => {
      assert.equal(id, fakeToken(open.promptIds, index), `new token ${index} of sequence ${open.sequence}`);
    });
    const sequence = { ...open, processed: 0, newTokens: newIds.length, finish: Finish.RUNNING };
    if (warm) this.#share(warm, sequence, keptRows);
    this.#sequences.set(open.slot, sequence);
  }

  #copy({ fromSequence, fromSlot, rows, toSequence, toSlot }: RowCopy): void {
    const from = this.#sequences.get(fromSlot);
    const to = this.#sequences.get(toSlot);
    assert(from?.sequence === fromSequence, `slot ${fromSlot} holds sequence ${fromSequence}`);
    assert(to?.sequence === toSequence, `slot ${toSlot} holds sequence ${toSequence}`);
    this.#share(from, to, rows);
  }

  #share(from: FakeSequence, to: FakeSequence, rows: number): void {
    assert(
      rows > to.processed && rows < to.promptIds.length + to.newTokens,
      `${rows} rows are more, and not the whole prompt`,
    );
    assert(rows <= from.processed, `${rows} rows of ${from.processed}`);
    const idAt = ({ promptIds }: FakeSequence, position: number): number =>
      promptIds[position] ?? fakeToken(promptIds, position - promptIds.length);
    for (let position = 0; position < rows; position++) {
      assert.equal(
        idAt(from, position),
        idAt(to, position),
        `position ${position} of sequences ${from.sequence} and ${to.sequence}`,
      );
    }
    this.sharedRows += rows - to.processed;
    to.processed = rows;
  }

  #row({ draftIds = [], mask, maskFollows = false, sequence: id, slot, tokens: count }: Row): RowResult {
    const sequence = this.#sequences.get(slot);
    assert(sequence && sequence.sequence === id, `slot ${slot} holds sequence ${id}`);
    const row = { slot, sequence: id, tokens: [], vector: [] };
    if (sequence.finish !== Finish.RUNNING) return { ...row, skipped: true, finish: sequence.finish };
    const length = sequence.promptIds.length + sequence.newTokens;
    sequence.processed += count;
    assert(count > 0 && sequence.processed <= length, `${count} tokens of sequence ${id} are known`);
    const isThrough = sequence.processed === length;
    let bounds = mask ?? null;
    if (maskFollows) {
      assert(isThrough && !mask && draftIds.length === 0, 'a row that chooses, without a mask');
      const late = this.#lateMasks.get(id) ?? [];
      assert(late.length > 0, `the mask of sequence ${id} has come`);
      bounds = late.shift()!;
      if (bounds === null) {
        sequence.processed -= count;
        return { ...row, skipped: true, finish: sequence.finish };
      }
    }
    if (isThrough && sequence.promptIds.at(-1) === UNCHOOSABLE_ID) {
      sequence.finish = Finish.FAILED;
      const failure = { code: 'BAD_REQUEST', message: 'no token can be chosen' };
      return { ...row, skipped: false, finish: sequence.finish, failure };
    }
    const left = sequence.maxNewTokens - sequence.newTokens;
    const mayDraft = isThrough && !mask && draftIds.length < left;
    assert(draftIds.length === 0 || mayDraft, `${draftIds.length} drafts with ${left} tokens left`);
    const tokens = isThrough ? [this.#choose(sequence)] : [];
    for (const { tokenId } of this.#obeysMasks && bounds ? tokens : [])
      assert(bounds!.ids.includes(tokenId), `the mask of sequence ${id} is not that of its token ${tokenId}`);
    for (const draft of draftIds) {
      if (sequence.finish !== Finish.RUNNING || draft !== tokens.at(-1)!.tokenId) break;
      sequence.processed++;
      tokens.push(this.#choose(sequence));
    }
    const isKnown = sequence.newTokens <= (sequence.forcedIds?.length ?? 0);
    assert(
      !isThrough || isKnown || bounds !== null || !this.#needsMask(sequence.promptIds),
      `a token of sequence ${id} has no mask`,
    );
    return { ...row, skipped: false, tokens, finish: sequence.finish };
  }

  #choose(sequence: FakeSequence): ChosenToken {
    const tokenId = fakeToken(sequence.promptIds, sequence.newTokens);
    sequence.newTokens++;
    const isForced = sequence.newTokens <= (sequence.forcedIds?.length ?? 0);
    if (sequence.endIds.includes(tokenId) && !isForced) sequence.finish = Finish.END_ID;
    else if (sequence.newTokens >= sequence.maxNewTokens) sequence.finish = Finish.LENGTH;
    const { logprob, topLogprobs } = sequence.sampling;
    return {
      tokenId,
      logprob: logprob ? -tokenId / 100 : Number.NaN,
      topLogprobs: Array.from({ length: topLogprobs }, (_, n) => ({
        tokenId: (tokenId + n) % FAKE_VOCAB,
        logprob: -n,
      })),
    };
  }
}
