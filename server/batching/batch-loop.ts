/**
 * The heart: choose a batch, step the group, apply the tokens.
 *
 * In      the model's job queue; a coordinator that steps one group
 * Out     events on the jobs' streams; `onSlotFreed` when a sequence has left
 * Limits  slots and KV tokens of the slot table; MAX_STEPS_IN_FLIGHT steps
 * Errors  run() rejects when the group has failed: its started jobs go back to the queue and go on in another (resumption.ts), or end
 *         with that error; waiting jobs stay queued
 *
 * One step ahead (design D7): the next step is sent before the result of the last has come. It takes every sequence not
 * known to have ended to go on; the workers skip the rows of those that did end. So a slot is closed a step after its end,
 * and results of sequences that have left are dropped.
 * KV memory is taken as rows are written. Where it runs out the youngest sequence is preempted: it waits for a slot, before all jobs
 * that wait, and its prompt and the tokens it has told are computed again.
 * When nothing can run the loop sleeps until a job is queued or cancelled, a result has come or a batch is due.
 */
import assert from 'node:assert/strict';
import type { SequenceOpen, StepResult } from '../../proto/control.js';
import { ServingError } from '../../proto/errors.js';
import type { GenerationJob } from '../jobs/generation-job.js';
import { WakeUp } from '../jobs/wake-up.js';
import type { SlotFreed } from '../jobs/work-observer.js';
import type { BatchLoopOptions, StepPlan } from './batch-loop-options.js';
import type { Batch, BatcherState, WaitingJob } from './batcher.js';
import { planGrowth } from './kv-growth.js';
import type { Place } from './prefix-cache.js';
import { goesOn } from './resumption.js';
import { Sequence } from './sequence.js';
import { KV_PAGE_TOKENS, kvTokensOf, kvTokensToStart, roundUpToPages, type SlotTable } from './slot-table.js';
import { TextVector } from './text-vector.js';

/** One that runs and one that waits behind it: enough that the workers never wait for the server. */
const MAX_STEPS_IN_FLIGHT = 2;

interface InFlight {
  plan: StepPlan;
  /** Set when it has come. */
  outcome: { result: StepResult } | { error: unknown } | null;
}

export class BatchLoop {
  readonly #options: BatchLoopOptions;
  readonly #wakeUp: WakeUp;
  /** Oldest first. */
  #running: (Sequence | TextVector)[] = [];
  /** Had a slot and will have one again, before any job that waits: oldest first, and younger than all that run. */
  #preempted: Sequence[] = [];
  readonly #bySequence = new Map<number, Sequence | TextVector>();
  readonly #inFlight: InFlight[] = [];
  #nextSequence = 1;
  #stopping = false;
  #groupError: { error: unknown } | null = null;
  #idle = true;

  constructor(options: BatchLoopOptions) {
    this.#options = options;
    this.#wakeUp = new WakeUp(options.clock);
  }

  get runningCount(): number {
    return this.#running.length;
  }

  /** For the metrics. */
  get slots(): Pick<SlotTable, 'maxSlots' | 'freeSlots' | 'kvTokens' | 'freeKvTokens'> {
    return this.#options.slots;
  }

  /** KV tokens that the prefix cache keeps of sequences that ended. */
  get warmTokens(): number {
    return this.#options.prefixCache?.warmTokens ?? 0;
  }

  /** Jobs that it could start at once. */
  get room(): number {
    const { batcher, queue } = this.#options;
    const room = batcher.room(this.#state(queue.waiting)) - this.#preempted.length;
    return this.#stopping ? 0 : Math.max(0, room);
  }

  /** No job is started from now on; run() resolves when those that run have ended. */
  stop(): void {
    this.#stopping = true;
    this.#wakeUp.notify();
  }

  /** Until stop, or until the group fails. @throws the group's error */
  async run(): Promise<void> {
    const stopListening = this.#options.queue.onPush(() => this.#wakeUp.notify());
    void this.#options.group.failed.then((error) => {
      this.#groupError = { error };
      this.#wakeUp.notify();
    });
    try {
      for (;;) {
        const next = await this.#nextBatch();
        if (next === null) return;
        this.#send(next.batch, next.prefillTokens);
      }
    } catch (error) {
      this.#failAll(ServingError.from(error));
      throw error;
    } finally {
      stopListening();
    }
  }

  /** Sleeps until there is something to run. null: stopped, and all is done. */
  async #nextBatch(): Promise<{ batch: Batch; prefillTokens: number } | null> {
    const { batcher, clock, prefixCache, queue, slots } = this.#options;
    for (;;) {
      this.#applyArrived();
      this.#dropCancelled();
      const maySend = this.#inFlight.length < MAX_STEPS_IN_FLIGHT;
      if (maySend) this.#growRows();
      prefixCache?.releaseHeld();
      this.#tellIdle();
      queue.dropExpired();
      const state = this.#state(this.#mayTake());
      if (maySend) {
        const batch = batcher.next(state, clock.nowMs());
        const { prefillTokens } = state;
        if (batch) return { batch, prefillTokens };
        if (slots.hasClosed) return { batch: { starts: 0, rows: [] }, prefillTokens };
      }
      if (this.#stopping && this.#isIdle) return null;
      await this.#wakeUp.wait(maySend ? batcher.wakeAtMs(state) : null);
    }
  }

  /** The part of the queue that this loop may choose from. */
  #mayTake(): readonly GenerationJob[] {
    const { mayStart, queue } = this.#options;
    if (this.#stopping) return [];
    if (!mayStart || queue.length === 0) return queue.waiting;
    const count = mayStart();
    return count < queue.length ? queue.waiting.slice(0, count) : queue.waiting;
  }

  get #isIdle(): boolean {
    return this.#running.length === 0 && this.#inFlight.length === 0 && this.#preempted.length === 0;
  }

  #tellIdle(): void {
    const idle = this.#isIdle;
    if (idle === this.#idle) return;
    this.#idle = idle;
    this.#options.onIdle?.(idle);
  }

  #state(waiting: readonly GenerationJob[]): BatcherState {
    const { chunkBudget, slots, wholePrompts = false } = this.#options;
    const prompts = this.#running.filter(({ held, promptLeft }) => promptLeft > 0 && !held).length;
    const decodes = this.#running.filter(
      ({ decodesLeft, promptLeft }) => promptLeft === 0 && decodesLeft > 0,
    );
    const load = {
      decodes: decodes.length,
      prompts: prompts + Math.min(this.#preempted.length + waiting.length, slots.freeSlots),
    };
    return {
      wholePrompts,
      waiting: [...this.#preempted.map(asWaiting), ...waiting.map(asQueued)],
      running: this.#running,
      freeSlots: slots.freeSlots,
      freeKvTokens: Math.max(0, slots.freeKvTokens - this.#soonGrown()),
      prefillTokens: chunkBudget.tokens(load),
    };
  }

  #send(batch: Batch, prefillTokens: number): void {
    const { group, prefixCache, queue, slots } = this.#options;
    const resumed = this.#preempted.splice(0, batch.starts);
    const opens = [
      ...resumed.map((sequence) => this.#resume(sequence)),
      ...queue.take(batch.starts - resumed.length).map((job) => this.#begin(job)),
    ];
    const copies = prefixCache?.takeCopies(prefillTokens);
    const rows = this.#rowsOf(batch, prefillTokens).map(({ index, tokens }) => {
      const sequence = this.#running[index];
      assert(sequence, `batch row ${index} of ${this.#running.length} sequences`);
      const mask = sequence.plan(tokens);
      return { slot: sequence.slot, sequence: sequence.sequence, tokens, ...(mask && { mask }) };
    });
    const plan: StepPlan = {
      closeSlots: slots.takeClosed(),
      opens,
      ...(copies && { copies }),
      rows,
    };
    prefixCache?.stepPlanned(rows);
    const flight: InFlight = { plan, outcome: null };
    this.#inFlight.push(flight);
    this.#tellIdle();
    const arrive = (outcome: NonNullable<InFlight['outcome']>): void => {
      flight.outcome = outcome;
      this.#wakeUp.notify();
    };
    group.step(plan).then(
      (result) => arrive({ result }),
      (error: unknown) => arrive({ error }),
    );
  }

  /** The batcher has planned the whole prompt of a job that starts: what the prefix cache has of it is for the others. */
  #rowsOf(batch: Batch, prefillTokens: number): Batch['rows'] {
    const { batcher, clock, prefixCache } = this.#options;
    if (!prefixCache || batch.starts === 0) return batch.rows;
    return batcher.next({ ...this.#state([]), prefillTokens }, clock.nowMs())?.rows ?? [];
  }

  #begin(job: GenerationJob): SequenceOpen {
    job.signal.addEventListener('abort', () => this.#wakeUp.notify(), { once: true });
    const { lost } = job;
    if (!(lost instanceof Sequence)) return this.#start(job);
    job.lost = null;
    lost.onMask = () => this.#wakeUp.notify();
    this.#options.observer?.jobResumed?.();
    return this.#resume(lost);
  }

  #start(job: GenerationJob): SequenceOpen {
    const { clock, observer, onJobStarted, prefixCache, slots, texts } = this.#options;
    const place: Place = prefixCache?.place(job) ?? { slot: slots.take(kvTokensToStart(job)), keptRows: 0 };
    const number = this.#nextSequence++;
    let sequence: Sequence | TextVector;
    if (job.request.kind === 'embed') {
      assert(!prefixCache, 'an embedding model keeps no rows');
      sequence = new TextVector(job, place.slot, number);
    } else {
      sequence = new Sequence(job, place.slot, number, texts, () => this.#wakeUp.notify());
      prefixCache?.begin(sequence, place);
    }
    const isFirst = job.startedAtMs === null;
    job.startedAtMs = clock.nowMs();
    this.#running.push(sequence);
    this.#bySequence.set(sequence.sequence, sequence);
    onJobStarted?.(job);
    if (isFirst) observer?.jobStarted(job.startedAtMs - job.queuedAtMs, job.promptIds.length);
    else observer?.jobResumed?.();
    return { ...sequence.open(), keptRows: place.keptRows };
  }

  /** A page more for each that needs it; where there is none left the youngest give theirs up. */
  #growRows(): void {
    const { slots } = this.#options;
    const holders = this.#running.map((sequence) => ({
      kvTokens: slots.held(sequence.slot),
      neededKvTokens:
        sequence instanceof Sequence && sequence.promptLeft === 0 && sequence.decodesLeft > 0
          ? roundUpToPages(sequence.plannedRows + 1)
          : 0,
    }));
    const running = [...this.#running];
    const { grow, preempt } = planGrowth(holders, slots.freeKvTokens);
    for (const index of preempt) {
      const sequence = running[index];
      assert(sequence instanceof Sequence, 'a text to embed never grows');
      this.#leave(sequence, 'preempted');
      sequence.preempt();
      this.#preempted.unshift(sequence);
    }
    for (const index of grow) slots.grow(running[index]!.slot);
  }

  /** KV tokens that those that run may each ask for next: a job that starts must not take them. */
  #soonGrown(): number {
    const { slots } = this.#options;
    let tokens = 0;
    for (const { job, slot } of this.#running)
      tokens += Math.min(KV_PAGE_TOKENS, kvTokensOf(job) - slots.held(slot));
    return tokens;
  }

  #resume(sequence: Sequence): SequenceOpen {
    const { prefixCache, slots } = this.#options;
    const waiting = asWaiting(sequence);
    const place: Place = prefixCache?.place(sequence.job, waiting) ?? {
      slot: slots.take(kvTokensToStart(waiting)),
      keptRows: 0,
    };
    sequence.resume(place.slot, this.#nextSequence++);
    prefixCache?.begin(sequence, place);
    this.#running.push(sequence);
    this.#bySequence.set(sequence.sequence, sequence);
    return { ...sequence.open(), keptRows: place.keptRows };
  }

  #applyArrived(): void {
    for (let flight = this.#inFlight[0]; flight?.outcome; flight = this.#inFlight[0]) {
      if ('error' in flight.outcome) throw flight.outcome.error;
      this.#apply(flight, flight.outcome.result);
      this.#inFlight.shift();
    }
    if (this.#groupError) throw this.#groupError.error;
  }

  #apply(flight: InFlight, result: StepResult): void {
    const { chunkBudget, clock, observer } = this.#options;
    assert.equal(result.rows.length, flight.plan.rows.length, 'a result has a row for each row of its step');
    const stepMs = (result.computeUs + result.collectiveUs + result.chooseUs) / 1000;
    const nowMs = clock.nowMs();
    let ran = 0;
    let ranTokens = 0;
    result.rows.forEach((row, index) => {
      assert.equal(row.sequence, flight.plan.rows[index]?.sequence, 'results come in the order of the rows');
      const sequence = this.#bySequence.get(row.sequence);
      if (!row.skipped) {
        ran++;
        ranTokens += flight.plan.rows[index]?.tokens ?? 0;
      }
      if (!sequence || sequence.job.cancelled) return;
      if (row.failure) {
        sequence.job.cancel(ServingError.told(row.failure));
        // Its rows may hold what made it fail: they are for nobody else.
        this.#leave(sequence, 'failed');
        return;
      }
      if (!(row.hasToken || row.vector.length > 0)) return;
      if (sequence instanceof Sequence && row.hasToken) this.#observeToken(sequence, nowMs);
      try {
        sequence.append(row, nowMs);
      } catch (error) {
        // A bug in turning tokens into text is this job's alone.
        sequence.job.cancel(ServingError.from(error));
      }
      if (sequence.finish !== null) this.#leave(sequence, 'finished');
    });
    chunkBudget.observe(ranTokens, stepMs);
    if (ran > 0) observer?.stepDone(ran, result.computeUs, result.collectiveUs, result.chooseUs);
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

  #dropCancelled(): void {
    this.#preempted = this.#preempted.filter(({ job }) => !job.cancelled);
    for (const sequence of this.#running.filter((one) => one.job.cancelled)) {
      this.#leave(sequence, 'cancelled');
    }
  }

  #leave(sequence: Sequence | TextVector, why: SlotFreed['why']): void {
    this.#running = this.#running.filter((one) => one !== sequence);
    this.#bySequence.delete(sequence.sequence);
    const { prefixCache, slots } = this.#options;
    if (prefixCache && sequence instanceof Sequence)
      prefixCache.leave(sequence, why !== 'failed' && why !== 'lost');
    else slots.release(sequence.slot);
    const { id: jobId, request } = sequence.job;
    this.#options.onSlotFreed?.({
      jobId,
      requestId: request.requestId,
      slot: sequence.slot,
      why,
      newTokens: sequence.newTokens,
    });
  }

  /** The group is lost. What it had begun goes before all that waits. */
  #failAll(error: ServingError): void {
    const { jobRetries = 0, queue } = this.#options;
    const begun = [...this.#running, ...this.#preempted.splice(0)];
    const back: GenerationJob[] = [];
    for (const sequence of begun) {
      const { job } = sequence;
      const survives = goesOn(job, error, jobRetries);
      if (this.#bySequence.has(sequence.sequence)) this.#leave(sequence, survives ? 'lost' : 'failed');
      if (!survives) continue;
      if (sequence instanceof Sequence) {
        sequence.preempt();
        job.lost = sequence;
      }
      back.push(job);
    }
    queue.putBack(back);
  }
}

const asWaiting = ({ decodesLeft, inputIds, job }: Sequence): WaitingJob => ({
  promptIds: inputIds,
  maxNewTokens: decodesLeft + 1,
  queuedAtMs: job.queuedAtMs,
});

/** A job that has lost its group begins with the tokens that it has told. */
const asQueued = (job: GenerationJob): WaitingJob =>
  job.lost instanceof Sequence ? asWaiting(job.lost) : job;
