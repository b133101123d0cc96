/**
 * Choosing the next tokens of a step, in two stages: every rank goes through its slice of the vocabulary (slice-reader.ts),
 * rank 0 puts the shares together, chooses, and tells the others.
 *
 * In      for each row: its sequence, and this rank's slice of its logits
 * Out     for each row: token id and, where asked, log-probabilities; the same on every rank
 * Cost    one gather and one broadcast a step, of 12 bytes a greedy row and some 600 a row with top_p. Rows whose nucleus
 *         reaches past the candidates cost one more of both, with their whole logits; each time the number of candidates
 *         doubles, up to MAX_CANDIDATES. A single rank encodes and sends nothing
 * Result  depends on (logits, sequence) alone: not on the batch, the world size or the ranks' speed
 *         A row that cannot be chosen (logits are NaN or infinite, every id is masked) has a failure, the same on every rank
 * Errors  CollectiveError; a bug on rank 0 is ServingError INTERNAL on every rank
 */
import assert from 'node:assert/strict';
import { ServingError } from '../../proto/errors.js';
import { MAX_CANDIDATES } from '../../proto/limits.js';
import type { Collective } from '../collective/collective.js';
import type { ChooseSequence } from '../sequence.js';
import { type Choice, failedChoice } from './choice.js';
import { RowDecider } from './row-decider.js';
import { RowShare, ShareKind, shareKindOf, wantsLogprob } from './row-share.js';
import { SliceReader } from './slice-reader.js';
import { WordReader, WordWriter } from './word-codec.js';

export interface ChooseRow {
  sequence: ChooseSequence;
  /** This rank's slice of the row, [vocabPerRank]; overwritten. */
  logits: Float32Array;
}

export interface ChooserOptions {
  collective: Collective;
  vocabSize: number;
  /** Rank r holds the ids r · vocabPerRank …; those of vocabSize and above are padding. */
  vocabPerRank: number;
}

/** Candidates a row offers at first where only top_p or min_p limits them. */
const FIRST_CANDIDATES = 64;

const Status = { CHOSEN: 0, FAILED: 1 } as const;

/** In the place of a token id. */
const NoToken = { WHOLE_ROW_NEEDED: -1, ROW_FAILED: -2 } as const;

export class Chooser {
  readonly #collective: Collective;
  readonly #vocabSize: number;
  readonly #reader: SliceReader;
  readonly #decider: RowDecider;
  /** This rank's, one a row. */
  readonly #own: RowShare[] = [];
  /** Rank 0: one a rank. */
  readonly #shares: RowShare[];
  readonly #writer = new WordWriter();
  #nucleusCandidates = FIRST_CANDIDATES;

  constructor(options: ChooserOptions) {
    const { collective, vocabSize, vocabPerRank } = options;
    assert(collective.worldSize * vocabPerRank >= vocabSize, 'the ranks hold the whole vocabulary');
    this.#collective = collective;
    this.#vocabSize = vocabSize;
    this.#reader = new SliceReader(collective.rank, vocabSize, vocabPerRank);
    this.#decider = new RowDecider(vocabSize, vocabPerRank);
    this.#shares = Array.from(
      { length: collective.rank === 0 ? collective.worldSize : 0 },
      () => new RowShare(),
    );
  }

  /**
   * Choose a token for each row. A collective operation: every rank calls it with the same rows.
   *
   * @param opBase first operation index of this step that is free for the collectives' tags; up to four are used
   * @throws ServingError INTERNAL, CollectiveError
   */
  async choose(step: number, opBase: number, rows: readonly ChooseRow[]): Promise<Choice[]> {
    if (rows.length === 0) return [];
    while (this.#own.length < rows.length) this.#own.push(new RowShare());
    for (let row = 0; row < rows.length; row++) {
      const { logits, sequence } = rows[row]!;
      assert(logits.length >= this.#reader.count, `${logits.length} logits of ${this.#reader.count}`);
      this.#reader.read(logits, sequence, this.#nucleusCandidates, this.#own[row]!);
    }
    return this.#collective.worldSize === 1
      ? this.#chooseAlone(rows)
      : this.#chooseTogether(step, opBase, rows);
  }

  #chooseAlone(rows: readonly ChooseRow[]): Choice[] {
    let widen = false;
    const choices = rows.map(({ sequence, logits }, row) => {
      const share = this.#own[row]!;
      let choice = this.#decider.decide([share], sequence);
      if (choice === null) {
        widen = true;
        this.#reader.readWhole(logits, share);
        choice = this.#decider.decide([share], sequence);
      }
      assert(choice !== null, 'a whole row proves its choice');
      return choice;
    });
    if (widen) this.#widen();
    return choices;
  }

  async #chooseTogether(step: number, opBase: number, rows: readonly ChooseRow[]): Promise<Choice[]> {
    const choices = new Array<Choice | null>(rows.length).fill(null);
    const all = rows.map((_, row) => row);
    const wide = await this.#round(step, opBase, rows, all, choices);
    if (wide.length > 0) {
      for (const row of wide) this.#reader.readWhole(rows[row]!.logits, this.#own[row]!);
      this.#widen();
      const left = await this.#round(step, opBase + 2, rows, wide, choices);
      assert(left.length === 0, 'whole rows prove their choices');
    }
    return choices as Choice[];
  }

  /**
   * One gather and one broadcast over some of the rows. Fills their choices.
   *
   * @returns the rows that need their whole logits
   */
  async #round(
    step: number,
    op: number,
    rows: readonly ChooseRow[],
    which: readonly number[],
    choices: (Choice | null)[],
  ): Promise<number[]> {
    const writer = this.#writer;
    writer.reset();
    for (const row of which) this.#own[row]!.write(writer, rows[row]!.sequence.sampling);
    const pieces = await this.#collective.gather({ step, op }, writer.message());
    if (pieces === null) {
      const message = await this.#collective.broadcast({ step, op: op + 1 }, null);
      return this.#readChoices(new WordReader(message), rows, which, choices);
    }
    let failure: unknown = null;
    let wide: number[] = [];
    try {
      wide = this.#decideAll(pieces, rows, which, choices);
      this.#writeChoices(rows, which, choices);
    } catch (error) {
      // The other ranks wait: they must learn of it.
      failure = error;
      writer.reset();
      writer.int(Status.FAILED);
      writer.text(ServingError.from(error).message);
    }
    await this.#collective.broadcast({ step, op: op + 1 }, writer.message());
    if (failure !== null) throw failure;
    return wide;
  }

  #decideAll(
    pieces: readonly Uint8Array[],
    rows: readonly ChooseRow[],
    which: readonly number[],
    choices: (Choice | null)[],
  ): number[] {
    const readers = pieces.map((piece) => new WordReader(piece));
    const wide: number[] = [];
    for (const row of which) {
      const { sequence } = rows[row]!;
      const secondRound = this.#own[row]!.kind === ShareKind.WHOLE;
      const expected = secondRound ? ShareKind.WHOLE : shareKindOf(sequence.sampling, this.#vocabSize);
      for (let rank = 0; rank < readers.length; rank++) {
        this.#shares[rank]!.read(readers[rank]!, expected, sequence.sampling);
      }
      choices[row] = this.#decider.decide(this.#shares, sequence);
      if (choices[row] === null) wide.push(row);
    }
    return wide;
  }

  #writeChoices(
    rows: readonly ChooseRow[],
    which: readonly number[],
    choices: readonly (Choice | null)[],
  ): void {
    const writer = this.#writer;
    writer.reset();
    writer.int(Status.CHOSEN);
    for (const row of which) {
      const choice = choices[row]!;
      if (choice?.failure) {
        writer.int(NoToken.ROW_FAILED);
        writer.text(choice.failure.code);
        writer.text(choice.failure.message);
        continue;
      }
      writer.int(choice === null ? NoToken.WHOLE_ROW_NEEDED : choice.tokenId);
      if (choice === null || !wantsLogprob(rows[row]!.sequence.sampling)) continue;
      writer.float64(choice.logprob);
      writer.int(choice.topLogprobs.length);
      for (const { tokenId, logprob } of choice.topLogprobs) {
        writer.int(tokenId);
        writer.float64(logprob);
      }
    }
  }

  #readChoices(
    reader: WordReader,
    rows: readonly ChooseRow[],
    which: readonly number[],
    choices: (Choice | null)[],
  ): number[] {
    if (reader.int() === Status.FAILED) throw new ServingError('INTERNAL', reader.text());
    const wide: number[] = [];
    for (const row of which) {
      const tokenId = reader.int();
      if (tokenId === NoToken.WHOLE_ROW_NEEDED) {
        wide.push(row);
        continue;
      }
      if (tokenId === NoToken.ROW_FAILED) {
        choices[row] = failedChoice({ code: reader.text(), message: reader.text() });
        continue;
      }
      const choice: Choice = { tokenId, logprob: Number.NaN, topLogprobs: [] };
      if (wantsLogprob(rows[row]!.sequence.sampling)) {
        choice.logprob = reader.float64();
        for (let left = reader.int(); left > 0; left--) {
          const id = reader.int();
          choice.topLogprobs.push({ tokenId: id, logprob: reader.float64() });
        }
      }
      choices[row] = choice;
    }
    return wide;
  }

  #widen(): void {
    this.#nucleusCandidates = Math.min(this.#nucleusCandidates * 2, MAX_CANDIDATES);
  }
}
