/**
 * The heart: apply what came, drop what was cancelled, choose a batch, send it to the group.
 *
 * In      the model's job queue; a coordinator that steps one group
 * Out     events on the jobs' streams; `onSlotFreed` when a sequence has left
 * Limits  slots and KV tokens of the slot table; MAX_STEPS_IN_FLIGHT steps
 * Errors  run() rejects when the group has failed: its started jobs go back to the queue and go on in another (resumption.ts), or end
 *         with that error; waiting jobs stay queued
 *
 * One step ahead: the next step is sent before the result of the last has come. It takes every sequence not known to have ended to go
 * on, but for those that do not run ahead (sequence.ts); the workers skip the rows of those that did end. So a slot is closed a step
 * after its end, and results of sequences that have left are dropped. Masks of constrained sequences follow while the step runs.
 * When nothing can run the loop sleeps until a job is queued or cancelled, a result has come or a batch is due.
 */
import assert from 'node:assert/strict';
import type { RowResult, StepResult } from '../../proto/control.js';
import { Finish } from '../../proto/control.js';
import { ServingError } from '../../proto/errors.js';
import type { GenerationJob } from '../jobs/generation-job.js';
import { WakeUp } from '../jobs/wake-up.js';
import type { BatchLoopOptions, StepPlan } from './batch-loop-options.js';
import type { Batch, BatcherState, RunningSequence } from './batcher.js';
import type { Load } from './chunk-budget.js';
import type { DeathLimits } from './resumption.js';
import { asQueued, asWaiting, RunningSet } from './running-set.js';
import { Sequence } from './sequence.js';
import type { SlotTable } from './slot-table.js';
import type { TextVector } from './text-vector.js';

/** One that runs and one that waits behind it: enough that the workers never wait for the server. */
const MAX_STEPS_IN_FLIGHT = 2;
/** A step waits so long at most for a mask, counted from the token before it: then the row is left out, and its sequence does not run ahead for a while. */
const LATE_MASK_MS = 50;
/** Sequences that do not run ahead step together: one whose mask is made waits so long at most for the masks of others. */
const MASKS_WAIT_MS = 5;

const NO_DEATHS: DeathLimits = { retries: 0, mostDeaths: 0 };
/** One that waits for another to step alone. */
const PAUSED: RunningSequence = { promptLeft: 0, awaits: true, decodesLeft: 0 };

interface InFlight {
  plan: StepPlan;
  /** By row, pairs of a token with a row that it attends to. */
  pairs: readonly number[];
  sentAtMs: number;
  /** Set when it has come. */
  outcome: (({ result: StepResult } | { error: unknown }) & { atMs: number }) | null;
}

/** What the next step is, or until when there is none. */
type Chosen = { batch: Batch; prefillTokens: number } | { batch: null; wakeAtMs: number | null };

export class BatchLoop {
  readonly #options: BatchLoopOptions;
  readonly #wakeUp: WakeUp;
  readonly #set: RunningSet;
  readonly #inFlight: InFlight[] = [];
  #stopping = false;
  #groupError: { error: unknown } | null = null;
  #lastResultAtMs = 0;
  #idle = true;

  constructor(options: BatchLoopOptions) {
    this.#options = options;
    this.#wakeUp = new WakeUp(options.clock);
    const { group } = options;
    this.#set = new RunningSet({
      ...options,
      wake: () => this.#wakeUp.notify(),
      tellMasks: group.tellMasks ? (masks) => group.tellMasks!(masks) : undefined,
    });
  }

  get runningCount(): number {
    return this.#set.running.length;
  }

  /** For the metrics. */
  get slots(): Pick<SlotTable, 'maxSlots' | 'freeSlots' | 'kvTokens' | 'freeKvTokens' | 'parkedKvTokens'> {
    return this.#options.slots;
  }

  /** Deaths of its model that were a request's fault, by what the last one has shown. */
  get deathsOfRequests(): number {
    return this.#set.deathsOfRequests;
  }

  /** KV tokens that the prefix cache keeps of sequences that ended. */
  get warmTokens(): number {
    return this.#options.prefixCache?.warmTokens ?? 0;
  }

  /** Jobs that it could start at once. */
  get room(): number {
    const { batcher, queue } = this.#options;
    const room = batcher.room(this.#state(queue.waiting)) - this.#set.preempted.length;
    return this.#stopping ? 0 : Math.max(0, room);
  }

  /** No job is started from now on; run() resolves when those that run have ended. */
  stop(): void {
    this.#stopping = true;
    this.#wakeUp.notify();
  }

  /** Until stop, or until the group fails. @throws the group's error */
  async run(): Promise<void> {
    const { deathLimits = NO_DEATHS, group, queue } = this.#options;
    const stopListening = queue.onPush(() => this.#wakeUp.notify());
    void group.failed.then((error) => {
      this.#groupError = { error };
      this.#wakeUp.notify();
    });
    try {
      for (;;) {
        this.#applyArrived();
        this.#set.dropCancelled();
        const lateAtMs = this.#set.tellMasks(this.#options.clock.nowMs(), LATE_MASK_MS);
        const chosen = this.#choose();
        if (chosen.batch) this.#send(chosen.batch, chosen.prefillTokens);
        else if (this.#stopping && this.#isIdle) return;
        else await this.#wakeUp.wait(earlier(chosen.wakeAtMs, lateAtMs));
      }
    } catch (error) {
      // What the group had begun goes before all that waits.
      queue.putBack(this.#set.loseAll(ServingError.from(error), deathLimits, this.#numbersInFlight));
      throw error;
    } finally {
      stopListening();
    }
  }

  #applyArrived(): void {
    for (let flight = this.#inFlight[0]; flight?.outcome; flight = this.#inFlight[0]) {
      if ('error' in flight.outcome) throw flight.outcome.error;
      this.#apply(flight, flight.outcome.result, flight.outcome.atMs);
      this.#inFlight.shift();
    }
    if (this.#groupError) throw this.#groupError.error;
  }

  #apply(flight: InFlight, result: StepResult, atMs: number): void {
    const { chunkBudget, clock, observer } = this.#options;
    assert.equal(result.rows.length, flight.plan.rows.length, 'a result has a row for each row of its step');
    const nowMs = clock.nowMs();
    let ran = 0;
    const work = { tokens: 0, pairs: 0 };
    result.rows.forEach((row, index) => {
      const planned = flight.plan.rows[index];
      assert(planned?.sequence === row.sequence, 'results come in the order of the rows');
      if (!row.skipped) {
        ran++;
        work.tokens += planned.tokens + (planned.draftIds?.length ?? 0);
        work.pairs += flight.pairs[index] ?? 0;
      }
      const sequence = this.#set.find(row.sequence);
      const drafts = planned.draftIds?.length ?? 0;
      // What a prompt goes on with is no guess; of one that has left it is not known.
      const isGuess = sequence instanceof Sequence && !sequence.tellsPrompt;
      if (drafts > 0 && !row.skipped && isGuess)
        observer?.draftsTried?.(drafts, Math.max(0, row.tokens.length - 1));
      if (sequence && !sequence.job.cancelled) this.#applyRow(sequence, row, nowMs);
    });
    chunkBudget.observe(work, this.#stepMs(flight, result, atMs));
    if (ran > 0) observer?.stepDone(ran, result.computeUs, result.collectiveUs, result.chooseUs);
  }

  /**
   * What streams waited for the step: from the result before it, or from when it was sent, to its own. That has in it what the ranks do
   * not count (messages, opening and closing sequences, a machine that is busy), but not a server that was held: twice theirs at most.
   */
  #stepMs({ sentAtMs }: InFlight, result: StepResult, atMs: number): number {
    const ranksMs = (result.computeUs + result.collectiveUs + result.chooseUs) / 1000;
    const waitedMs = atMs - Math.max(sentAtMs, this.#lastResultAtMs);
    this.#lastResultAtMs = atMs;
    return Math.max(ranksMs, Math.min(waitedMs, 2 * ranksMs));
  }

  #applyRow(sequence: Sequence | TextVector, row: RowResult, nowMs: number): void {
    try {
      if (sequence instanceof Sequence) this.#appendTokens(sequence, row, nowMs);
      else if (row.vector.length > 0) sequence.append(row);
    } catch (error) {
      // A bug in turning tokens into text is this job's alone.
      sequence.job.cancel(ServingError.from(error));
    }
    if (sequence.finish !== null) this.#set.leave(sequence, 'finished');
    else if (row.failure) {
      sequence.job.cancel(ServingError.told(row.failure));
      // Its rows may hold what made it fail: they are for nobody else.
      this.#set.leave(sequence, 'failed');
    }
  }

  /** Those behind a stop string are dropped. */
  #appendTokens(sequence: Sequence, { finish, tokens }: RowResult, nowMs: number): void {
    for (const [index, token] of tokens.entries()) {
      if (!sequence.tellsPrompt) this.#observeToken(sequence, nowMs);
      sequence.append(token, index + 1 === tokens.length ? finish : Finish.RUNNING, nowMs);
      if (sequence.finish !== null) break;
    }
    if (tokens.length > 0) sequence.rowApplied();
  }

  #observeToken({ cachedTokens, job }: Sequence, nowMs: number): void {
    const { observer, prefixCache } = this.#options;
    const gapMs = nowMs - job.lastTokenAtMs;
    job.lastTokenAtMs = nowMs;
    if (job.firstTokenAtMs === null) {
      observer?.firstToken(nowMs - job.receivedAtMs);
      if (prefixCache) observer?.prefixLookedUp?.(job.promptIds.length, cachedTokens);
    } else observer?.nextToken(gapMs);
  }

  /** Who starts, and what each runs. A step may also only close slots. */
  #choose(): Chosen {
    const { batcher, clock, prefixCache, queue, slots } = this.#options;
    const maySend = this.#inFlight.length < MAX_STEPS_IN_FLIGHT;
    if (maySend) this.#set.growRows();
    prefixCache?.releaseHeld();
    this.#tellIdle();
    queue.dropExpired();
    if (!maySend) return { batch: null, wakeAtMs: null };
    const state = this.#state(this.#mayTake());
    const { prefillTokens } = state;
    const batch = batcher.next(state, clock.nowMs());
    const company = batch === null ? null : this.#company(batch, clock.nowMs());
    if (company) return { batch: null, ...company };
    if (batch) return { batch, prefillTokens };
    if (slots.hasClosed) return { batch: { starts: 0, rows: [] }, prefillTokens };
    return { batch: null, wakeAtMs: batcher.wakeAtMs(state) };
  }

  /**
   * A step of nothing but sequences that do not run ahead waits for the others of their kind: those in flight, and those whose masks are
   * being made. Else they would part, and every step have a few of them.
   *
   * @returns until when it waits; null: it does not
   */
  #company({ rows, starts }: Batch, nowMs: number): { wakeAtMs: number | null } | null {
    const { running } = this.#set;
    const runsTogether = (one: Sequence | TextVector | undefined): boolean =>
      one instanceof Sequence && !one.runsAhead && one.promptLeft === 0;
    if (starts > 0 || rows.length === 0 || !rows.every(({ index }) => runsTogether(running[index])))
      return null;
    let untilMs: number | null = null;
    for (const one of running) {
      if (!(one instanceof Sequence) || one.runsAhead) continue;
      // Its result wakes the loop.
      if (one.isChoosing) return { wakeAtMs: null };
      const askedAtMs = one.maskAskedAtMs;
      if (askedAtMs !== null && nowMs < askedAtMs + MASKS_WAIT_MS) untilMs = askedAtMs + MASKS_WAIT_MS;
    }
    return untilMs === null ? null : { wakeAtMs: untilMs };
  }

  /** The part of the queue that this loop may choose from. */
  #mayTake(): readonly GenerationJob[] {
    const { mayStart, queue } = this.#options;
    if (this.#stopping) return [];
    if (!mayStart || queue.length === 0) return queue.waiting;
    const count = mayStart();
    return count < queue.length ? queue.waiting.slice(0, count) : queue.waiting;
  }

  #state(waiting: readonly GenerationJob[]): BatcherState {
    const { chunkBudget, slots, wholePrompts = false } = this.#options;
    const { preempted, running, soonGrown } = this.#set;
    const suspect = this.#suspect;
    if (suspect) {
      const { plannedRows: promptRows, promptLeft } = suspect;
      return {
        ...{ wholePrompts, waiting: [], freeSlots: 0, freeKvTokens: 0 },
        running: running.map((one) => (one === suspect ? one : PAUSED)),
        prefillTokens: chunkBudget.tokens({ decodes: 0, prompts: promptLeft > 0 ? 1 : 0, promptRows }),
      };
    }
    return {
      wholePrompts,
      waiting: [...preempted.map(asWaiting), ...waiting.map(asQueued)],
      running,
      freeSlots: slots.freeSlots,
      freeKvTokens: Math.max(0, slots.freeKvTokens - soonGrown),
      prefillTokens: chunkBudget.tokens(this.#load(preempted.length + waiting.length)),
    };
  }

  #load(waiting: number): Load {
    const { drafts, slots } = this.#options;
    const load = {
      decodes: 0,
      prompts: Math.min(waiting, slots.freeSlots),
      draftTokens: 0,
      decodePairs: 0,
      promptRows: 0,
    };
    for (const one of this.#set.running) {
      if (one.promptLeft > 0) {
        if (one.held) continue;
        load.prompts++;
        load.promptRows = Math.max(load.promptRows, one.plannedRows);
      } else if (one.decodesLeft > 0) {
        load.decodes++;
        load.draftTokens += one.mostDrafts;
        load.decodePairs += one.plannedRows + 1;
      }
    }
    return { ...load, draftTokens: Math.min(load.draftTokens, drafts?.perStep ?? 0) };
  }

  #send(batch: Batch, prefillTokens: number): void {
    const { clock, drafts, group, prefixCache, queue, slots } = this.#options;
    const resumed = this.#set.resumeFirst(batch.starts);
    const started = queue.take(batch.starts - resumed.length).map((job) => this.#set.begin(job));
    const copies = prefixCache?.takeCopies(prefillTokens);
    let draftRoom = drafts?.perStep ?? 0;
    const pairs: number[] = [];
    const rows = this.#rowsOf(batch, prefillTokens).map(({ index, tokens }) => {
      const sequence = this.#set.running[index];
      assert(sequence, `batch row ${index} of ${this.#set.running.length} sequences`);
      const before = sequence.plannedRows;
      const more = sequence.plan(tokens, draftRoom);
      const count = tokens + (more.draftIds?.length ?? 0);
      draftRoom -= count - tokens;
      pairs.push(count * (before + count / 2));
      return { slot: sequence.slot, sequence: sequence.sequence, tokens, ...more };
    });
    const plan: StepPlan = {
      closeSlots: slots.takeClosed(),
      opens: [...resumed, ...started],
      ...(copies && { copies }),
      rows,
    };
    prefixCache?.stepPlanned(rows);
    const flight: InFlight = { plan, pairs, sentAtMs: clock.nowMs(), outcome: null };
    this.#inFlight.push(flight);
    this.#tellIdle();
    const arrive = (outcome: { result: StepResult } | { error: unknown }): void => {
      flight.outcome = { ...outcome, atMs: clock.nowMs() };
      this.#wakeUp.notify();
    };
    group.step(plan).then(
      (result) => arrive({ result }),
      (error: unknown) => arrive({ error }),
    );
  }

  /**
   * The batcher has planned the whole prompt of a job that starts: what the prefix cache has of it is for the others. And it may be one
   * that is to step alone, or goes on and waits for its mask.
   */
  #rowsOf(batch: Batch, prefillTokens: number): Batch['rows'] {
    const { batcher, clock, prefixCache } = this.#options;
    const { running } = this.#set;
    const begun = batch.starts === 0 ? [] : running.slice(-batch.starts);
    const waits = begun.some((one: RunningSequence) => one.awaits);
    if (begun.length === 0 || (!prefixCache && !this.#suspect && !waits)) return batch.rows;
    const state = this.#state([]);
    // Behind rows that were there already a token costs more than at the start of its prompt.
    const least = Math.min(prefillTokens, state.prefillTokens);
    return batcher.next({ ...state, prefillTokens: least }, clock.nowMs())?.rows ?? [];
  }

  get #suspect(): Sequence | TextVector | undefined {
    return this.#set.suspect(this.#options.deathLimits ?? NO_DEATHS);
  }

  get #numbersInFlight(): ReadonlySet<number> {
    return new Set(this.#inFlight.flatMap(({ plan }) => plan.rows.map(({ sequence }) => sequence)));
  }

  get #isIdle(): boolean {
    return this.#set.isEmpty && this.#inFlight.length === 0;
  }

  #tellIdle(): void {
    const idle = this.#isIdle;
    if (idle === this.#idle) return;
    this.#idle = idle;
    this.#options.onIdle?.(idle);
  }
}

/** null: never. */
const earlier = (a: number | null, b: number | null): number | null =>
  a === null || b === null ? (a ?? b) : Math.min(a, b);
