/**
 * Carries out the coordinator's steps on one rank: closes and opens sequences, packs the rows, runs the program, chooses.
 *
 * Every rank does the same with the same data, so that all agree on which rows have ended without being told.
 *
 * In      Step (control.proto), in order
 * Out     StepResult: the same on every rank; rank 0 sends it. A sequence of an embedding model has one row, the whole text, and
 *         ends with its vector
 *         A row that cannot be chosen ends its sequence alone, on every rank alike: a failure in its RowResult
 * Drafts  run behind the known tokens of their row, and a token is chosen behind each, as if all before it were right. Those that are
 *         what was chosen count, in order; the rows of the others are forgotten. A choice depends on logits and sequence alone, so
 *         the tokens are those of steps without drafts, greedy or sampled
 * Masks   of a row may come while it runs (late-masks.ts): the choice waits for it. A row whose mask will not come is left out: what it
 *         wrote is forgotten, and its token runs again in a later step
 * Errors  assertions on a step that breaks the contract (a gap, a row of another sequence); CollectiveError; ONNX Runtime's
 */
import assert from 'node:assert/strict';
import {
  type ChosenToken,
  Finish,
  GREEDY_SAMPLING,
  type Inspection,
  type Row,
  type RowCopy,
  type RowFailure,
  type RowResult,
  type SequenceOpen,
  type Step,
  type StepResult,
} from '../proto/control.js';
import { ServingError } from '../proto/errors.js';
import { WARM_UP_TOKENS } from '../proto/limits.js';
import type { Collective } from './collective/collective.js';
import type { Executor } from './executor.js';
import type { KvCache } from './kv-cache.js';
import { LateMasks } from './late-masks.js';
import type { Choice } from './sampler/choice.js';
import type { ChooseRow, Chooser } from './sampler/chooser.js';
import { Sequence } from './sequence.js';
import type { Span } from './span.js';

export interface StepRunnerOptions {
  executor: Pick<Executor, 'program' | 'makesVectors' | 'begin' | 'run' | 'output' | 'positionOffset'>;
  kvCache: Pick<
    KvCache,
    'slotTokens' | 'reservedBytes' | 'touchedBytes' | 'open' | 'close' | 'truncate' | 'copyRows' | 'openSlots'
  >;
  chooser: Pick<Chooser, 'choose'>;
  collective: Pick<Collective, 'counters'>;
  weightBytes: number;
  /** Masks that come behind their steps; absent: none do. */
  lateMasks?: LateMasks;
}

/** What a row leads to. */
interface Outcome {
  tokens: ChosenToken[];
  vector?: number[];
  failure?: RowFailure;
}

const NOTHING: Outcome = { tokens: [] };

export class StepRunner {
  readonly #options: StepRunnerOptions;
  readonly #lateMasks: LateMasks;
  readonly #sequences = new Map<number, Sequence>();
  #lastStep = 0;
  #steps = 0;
  #computeUs = 0;
  #collectiveUs = 0;
  #chooseUs = 0;

  constructor(options: StepRunnerOptions) {
    this.#options = options;
    this.#lateMasks = options.lateMasks ?? new LateMasks();
  }

  async run(step: Step): Promise<StepResult> {
    assert.equal(step.step, this.#lastStep + 1, 'steps come in order');
    this.#lastStep = step.step;
    for (const slot of step.closeSlots) this.#close(slot);
    for (const open of step.opens) this.#open(open);
    for (const copy of step.copies ?? []) this.#copy(copy);
    const spans = this.#pack(step.rows);
    const times = { computeUs: 0, collectiveUs: 0, chooseUs: 0 };
    const outcomes =
      spans.length > 0 ? await this.#forward(step.step, spans, times) : new Map<number, Outcome>();
    this.#steps++;
    this.#computeUs += times.computeUs;
    this.#collectiveUs += times.collectiveUs;
    this.#chooseUs += times.chooseUs;
    return { step: step.step, rows: step.rows.map((row) => this.#rowResult(row, outcomes)), ...times };
  }

  /**
   * A pass over a made-up prompt and one token after it, before the model counts as ready: pages are touched, arenas grown.
   * A collective operation: every rank does it at the same time.
   */
  async warmUp(): Promise<void> {
    const slot = 0;
    const { executor, kvCache } = this.#options;
    const promptTokens = Math.max(1, Math.min(WARM_UP_TOKENS, kvCache.slotTokens - 1));
    const sequence = new Sequence({
      slot,
      sequence: 0,
      promptIds: new Array<number>(promptTokens).fill(0),
      maxNewTokens: 2,
      endIds: [],
      sampling: GREEDY_SAMPLING,
    });
    kvCache.open(slot);
    const times = { computeUs: 0, collectiveUs: 0, chooseUs: 0 };
    for (const count of executor.makesVectors ? [promptTokens] : [promptTokens, 1]) {
      if (sequence.processed + count > kvCache.slotTokens) break;
      const span: Span = { sequence, offset: 0, count, position: sequence.processed, outputRows: 1 };
      const outcomes = await this.#forward(0, [span], times);
      // With no request's own settings: the model is damaged, and must not count as ready.
      const failure = outcomes.get(slot)?.failure;
      if (failure) throw new ServingError('INTERNAL', failure.message);
    }
    kvCache.close(slot);
  }

  inspect(id: number): Inspection {
    const { collective, kvCache, weightBytes } = this.#options;
    return {
      id,
      pid: process.pid,
      steps: this.#steps,
      allReduces: collective.counters.allReduces,
      gathers: collective.counters.gathers,
      collectiveBytesSent: collective.counters.bytesSent,
      weightBytes,
      kvReservedBytes: kvCache.reservedBytes,
      kvTouchedBytes: kvCache.touchedBytes,
      openSlots: kvCache.openSlots(),
      computeUs: this.#computeUs,
      collectiveUs: this.#collectiveUs,
      chooseUs: this.#chooseUs,
      collectiveSkewUs: collective.counters.skewUs ?? 0,
    };
  }

  #open(open: SequenceOpen): void {
    const { kvCache } = this.#options;
    const { keptRows = 0, slot } = open;
    const sequence = new Sequence(open);
    assert(open.promptIds.length > 0, 'a sequence has a prompt');
    // A text to embed makes none.
    const made = sequence.newIds.length;
    assert(made === 0 || made < open.maxNewTokens, 'a sequence that goes on has a token left to make');
    if (keptRows === 0) {
      assert(!this.#sequences.has(slot), `slot ${slot} is taken`);
      kvCache.open(slot);
    } else {
      const warm = this.#sequences.get(slot);
      assert(warm, `slot ${slot} is not warm`);
      this.#lateMasks.forget(warm.sequence);
      this.#takeRows(warm, sequence, keptRows);
      kvCache.truncate(slot, keptRows);
    }
    this.#sequences.set(slot, sequence);
  }

  #copy({ fromSequence, fromSlot, rows, toSequence, toSlot }: RowCopy): void {
    const from = this.#sequences.get(fromSlot);
    const to = this.#sequences.get(toSlot);
    assert(from?.sequence === fromSequence, `slot ${fromSlot} does not hold sequence ${fromSequence}`);
    assert(to?.sequence === toSequence, `slot ${toSlot} does not hold sequence ${toSequence}`);
    const had = to.processed;
    this.#takeRows(from, to, rows);
    this.#options.kvCache.copyRows(fromSlot, toSlot, had, rows);
  }

  /** `to` goes on behind rows of `from`: only where they are of the same tokens at the same positions. */
  #takeRows(from: Sequence, to: Sequence, rows: number): void {
    assert(
      rows > to.processed && rows <= from.processed && rows < to.length,
      `${rows} rows of ${from.processed} for sequence ${to.sequence}, which has ${to.processed} and ${to.length} tokens to begin with`,
    );
    assert(
      this.#options.executor.positionOffset(from) === this.#options.executor.positionOffset(to),
      `sequences ${from.sequence} and ${to.sequence} count their positions alike`,
    );
    for (let position = to.processed; position < rows; position++) {
      assert(
        from.idAt(position) === to.idAt(position),
        `sequences ${from.sequence} and ${to.sequence} differ at position ${position}`,
      );
    }
    to.processed = rows;
  }

  #close(slot: number): void {
    const sequence = this.#sequences.get(slot);
    assert(sequence, `slot ${slot} is not open`);
    this.#sequences.delete(slot);
    this.#lateMasks.forget(sequence.sequence);
    this.#options.kvCache.close(slot);
  }

  /** Rows of sequences that still run, side by side. */
  #pack(rows: readonly Row[]): Span[] {
    const spans: Span[] = [];
    let offset = 0;
    for (const row of rows) {
      const sequence = this.#sequences.get(row.slot);
      assert(sequence?.sequence === row.sequence, `slot ${row.slot} does not hold sequence ${row.sequence}`);
      if (sequence.finish !== Finish.RUNNING) continue;
      const position = sequence.processed;
      const known = position + row.tokens;
      assert(
        row.tokens > 0 && known <= sequence.length,
        `row of ${row.tokens} tokens at ${position}, but the sequence has ${sequence.length}`,
      );
      const chooses = known === sequence.length;
      const { draftIds = [], mask = null, maskFollows = false } = row;
      const left = sequence.maxNewTokens - sequence.newIds.length;
      assert(
        draftIds.length === 0 || (chooses && mask === null && draftIds.length < left),
        `${draftIds.length} drafts in a row that cannot have them`,
      );
      assert(!maskFollows || (chooses && mask === null && draftIds.length === 0), 'a row has one mask');
      sequence.mask = mask;
      sequence.maskFollows = maskFollows;
      sequence.draftIds = draftIds;
      const count = row.tokens + draftIds.length;
      spans.push({ sequence, offset, count, position, outputRows: chooses ? 1 + draftIds.length : 0 });
      offset += count;
    }
    return spans;
  }

  /** Run the program, choose the tokens of every row whose tokens are through, and append them. */
  async #forward(
    step: number,
    spans: readonly Span[],
    times: { computeUs: number; collectiveUs: number; chooseUs: number },
  ): Promise<Map<number, Outcome>> {
    const { executor } = this.#options;
    const started = performance.now();
    executor.begin(step, spans);
    const collectiveUs = await executor.run();
    const ran = performance.now();
    for (const { count, position, sequence } of spans) sequence.processed = position + count;
    const leftOut = await this.#awaitMasks(spans);
    // Waiting is nobody's work.
    const chooses = performance.now();
    const outcomes = executor.makesVectors
      ? this.#takeVectors(spans)
      : await this.#choose(step, spans, leftOut);
    times.collectiveUs += collectiveUs;
    times.computeUs += Math.round((ran - started) * 1000) - collectiveUs;
    times.chooseUs += Math.round((performance.now() - chooses) * 1000);
    return outcomes;
  }

  /** Masks of the rows that were sent without. @returns those whose mask will not come */
  async #awaitMasks(spans: readonly Span[]): Promise<ReadonlySet<Span>> {
    const leftOut = new Set<Span>();
    for (const span of spans) {
      const { position, sequence } = span;
      if (!sequence.maskFollows) continue;
      sequence.maskFollows = false;
      sequence.mask = await this.#lateMasks.take(sequence.sequence);
      if (sequence.mask !== null) continue;
      leftOut.add(span);
      sequence.processed = position;
      this.#options.kvCache.truncate(sequence.slot, position);
    }
    return leftOut;
  }

  async #choose(
    step: number,
    spans: readonly Span[],
    leftOut: ReadonlySet<Span>,
  ): Promise<Map<number, Outcome>> {
    const { executor, chooser } = this.#options;
    const rows: ChooseRow[] = [];
    let output = 0;
    for (const span of spans) {
      const { outputRows, sequence } = span;
      for (let drafts = 0; drafts < outputRows; drafts++, output++) {
        if (leftOut.has(span)) continue;
        rows.push({ sequence: sequence.behind(drafts), logits: executor.output(output) });
      }
    }
    const choices = rows.length > 0 ? await chooser.choose(step, executor.program.length, rows) : [];
    const bySlot = new Map<number, Outcome>();
    let at = 0;
    for (const span of spans) {
      if (leftOut.has(span)) continue;
      const { outputRows, sequence } = span;
      bySlot.set(sequence.slot, this.#take(sequence, choices.slice(at, at + outputRows)));
      at += outputRows;
    }
    return bySlot;
  }

  /** The first choice, and each behind a draft that was chosen; of tokens that are not all known nothing is chosen. */
  #take(sequence: Sequence, choices: readonly Choice[]): Outcome {
    const { draftIds } = sequence;
    const outcome: Outcome = { tokens: [] };
    sequence.draftIds = [];
    for (const [index, { failure, ...token }] of choices.entries()) {
      if (failure) {
        sequence.fail();
        outcome.failure = failure;
        break;
      }
      sequence.append(token.tokenId);
      outcome.tokens.push(token);
      if (sequence.finish !== Finish.RUNNING || token.tokenId !== draftIds[index]) break;
    }
    // All but the last of the tokens were drafts whose rows are there; those of the drafts behind are of other tokens.
    const wrong = draftIds.length - Math.max(0, outcome.tokens.length - 1);
    if (wrong > 0) {
      sequence.processed -= wrong;
      this.#options.kvCache.truncate(sequence.slot, sequence.processed);
    }
    return outcome;
  }

  #takeVectors(spans: readonly Span[]): Map<number, Outcome> {
    return new Map(
      spans.map(({ count, outputRows, position, sequence }, row) => {
        assert(
          position === 0 && outputRows === 1,
          `a text of ${sequence.length} tokens runs whole, not ${count} of it`,
        );
        sequence.finish = Finish.LENGTH;
        return [sequence.slot, { tokens: [], vector: Array.from(this.#options.executor.output(row)) }];
      }),
    );
  }

  /** @param outcomes of the rows that ran and were not left out */
  #rowResult(row: Row, outcomes: ReadonlyMap<number, Outcome>): RowResult {
    const outcome = outcomes.get(row.slot);
    const { failure = null, tokens, vector = [] } = outcome ?? NOTHING;
    return {
      slot: row.slot,
      sequence: row.sequence,
      skipped: outcome === undefined,
      tokens,
      finish: this.#sequences.get(row.slot)?.finish ?? Finish.RUNNING,
      vector,
      failure,
    };
  }
}
