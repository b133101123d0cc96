/**
 * Who of a group has a slot, and who waits for one again.
 *
 * In      jobs that start; what ended, was cancelled or has no memory left
 * Out     SequenceOpen for each that gets a slot; `onSlotFreed` when one has left
 * Limits  slots and KV tokens of the slot table
 * Errors  assertions
 *
 * KV memory is taken as rows are written. Where it runs out the youngest sequence is preempted: it waits for a slot, before all jobs
 * that wait. Where there is swap space its rows stay where they are, and it goes on behind them; else its prompt and the tokens it has
 * told are computed again.
 */
import assert from 'node:assert/strict';
import type { LateMask, SequenceOpen } from '../../proto/control.js';
import type { ServingError } from '../../proto/errors.js';
import type { GenerationJob } from '../jobs/generation-job.js';
import type { SlotFreed } from '../jobs/work-observer.js';
import type { BatchLoopOptions } from './batch-loop-options.js';
import type { WaitingJob } from './batcher.js';
import { planGrowth } from './kv-growth.js';
import type { Place } from './prefix-cache.js';
import { type DeathLimits, goesOn, isSuspect, isToBlame } from './resumption.js';
import { Sequence } from './sequence.js';
import { KV_PAGE_TOKENS, kvTokensOf, kvTokensToStart, roundUpToPages } from './slot-table.js';
import { TextVector } from './text-vector.js';

export type RunningSetOptions = Pick<
  BatchLoopOptions,
  'slots' | 'prefixCache' | 'texts' | 'clock' | 'drafts' | 'onJobStarted' | 'onSlotFreed' | 'observer'
> & {
  /** A job was cancelled, or a mask has come. */
  wake: () => void;
  /** Tells the masks of rows in flight, in their order; absent: masks do not follow. */
  tellMasks?: ((masks: LateMask[]) => void) | undefined;
};

export class RunningSet {
  readonly #options: RunningSetOptions;
  /** Oldest first. */
  #running: (Sequence | TextVector)[] = [];
  /** Had a slot and will have one again, before any job that waits: oldest first, and younger than all that run. */
  #preempted: Sequence[] = [];
  readonly #byNumber = new Map<number, Sequence | TextVector>();
  #nextNumber = 1;

  constructor(options: RunningSetOptions) {
    this.#options = options;
  }

  get running(): readonly (Sequence | TextVector)[] {
    return this.#running;
  }

  get preempted(): readonly Sequence[] {
    return this.#preempted;
  }

  get isEmpty(): boolean {
    return this.#running.length === 0 && this.#preempted.length === 0;
  }

  /** undefined: it has left. */
  find(number: number): Sequence | TextVector | undefined {
    return this.#byNumber.get(number);
  }

  /** Deaths of which a request that has ended is guilty, the last one among them. */
  deathsOfRequests = 0;

  /** KV tokens that those that run may each ask for next: a job that starts must not take them. */
  get soonGrown(): number {
    const { slots } = this.#options;
    let tokens = 0;
    for (const { job, slot } of this.#running)
      tokens += Math.min(KV_PAGE_TOKENS, kvTokensOf(job) - slots.held(slot));
    return tokens;
  }

  /** The oldest that is to step alone; one whose prompt waits for another's is not. undefined: there is none. */
  suspect({ retries }: DeathLimits): Sequence | TextVector | undefined {
    return this.#running.find(
      ({ finish, held, job, newTokens }) => finish === null && !held && isSuspect(job, newTokens, retries),
    );
  }

  /** Slots for the oldest of those that were preempted. */
  resumeFirst(count: number): SequenceOpen[] {
    return this.#preempted.splice(0, count).map((sequence) => this.#resume(sequence));
  }

  /** A slot for a job that starts, or goes on after another group has died. */
  begin(job: GenerationJob): SequenceOpen {
    const { observer, wake } = this.#options;
    job.signal.addEventListener('abort', wake, { once: true });
    const { lost } = job;
    if (!(lost instanceof Sequence)) return this.#start(job);
    job.lost = null;
    lost.onMask = wake;
    observer?.jobResumed?.();
    return this.#resume(lost);
  }

  /** A page more for each that needs it; where there is none left the youngest give theirs up. */
  growRows(): void {
    const { slots } = this.#options;
    const running = [...this.#running];
    const holders = running.map((sequence) => ({
      kvTokens: slots.held(sequence.slot),
      neededKvTokens:
        sequence instanceof Sequence && sequence.promptLeft === 0 && sequence.decodesLeft > 0
          ? Math.min(roundUpToPages(sequence.plannedRows + 1 + sequence.mostDrafts), kvTokensOf(sequence.job))
          : 0,
    }));
    const { grow, preempt } = planGrowth(holders, slots.freeKvTokens);
    for (const index of preempt) {
      const sequence = running[index];
      assert(sequence instanceof Sequence, 'a text to embed never grows');
      this.leave(sequence, 'preempted');
      sequence.preempt();
      this.#preempted.unshift(sequence);
    }
    for (const index of grow) slots.grow(running[index]!.slot);
  }

  dropCancelled(): void {
    for (const sequence of this.#preempted) if (sequence.job.cancelled) this.#dropParked(sequence);
    this.#preempted = this.#preempted.filter(({ job }) => !job.cancelled);
    for (const sequence of this.#running.filter((one) => one.job.cancelled)) {
      this.leave(sequence, 'cancelled');
    }
  }

  leave(sequence: Sequence | TextVector, why: SlotFreed['why']): void {
    this.#running = this.#running.filter((one) => one !== sequence);
    this.#byNumber.delete(sequence.sequence);
    if (sequence instanceof Sequence) this.#leaveOut(sequence, sequence.dropRowsAhead());
    const { onSlotFreed, prefixCache, slots } = this.#options;
    if (why !== 'preempted') this.#forget(sequence);
    if (why === 'preempted' && sequence instanceof Sequence && this.#park(sequence)) {
      // Its slot is its own.
    } else if (prefixCache && sequence instanceof Sequence)
      prefixCache.leave(sequence, why !== 'failed' && why !== 'lost');
    else slots.release(sequence.slot);
    const { id: jobId, request } = sequence.job;
    onSlotFreed?.({
      jobId,
      requestId: request.requestId,
      slot: sequence.slot,
      why,
      newTokens: sequence.newTokens,
    });
  }

  /**
   * Masks that have come, for rows that were sent before. A form that takes long must hold up nobody: where its mask is late the rows are
   * left out.
   *
   * @returns when the next one is late; null: none is waited for
   */
  tellMasks(nowMs: number, patienceMs: number): number | null {
    const masks: LateMask[] = [];
    let untilMs: number | null = null;
    for (const sequence of this.#running) {
      if (!(sequence instanceof Sequence)) continue;
      const mask = sequence.takeLateMask();
      if (mask !== null) masks.push({ sequence: sequence.sequence, mask });
      const sinceMs = sequence.lateSinceMs;
      if (sinceMs === null) continue;
      const lateMs = sinceMs + patienceMs;
      if (nowMs >= lateMs) this.#leaveOut(sequence, sequence.stopRunningAhead());
      else untilMs = Math.min(untilMs ?? lateMs, lateMs);
    }
    if (masks.length > 0) this.#options.tellMasks?.(masks);
    return untilMs;
  }

  /** Its rows stay in its slot. @returns false: there is no room for them, or none is there yet */
  #park(sequence: Sequence): boolean {
    const { prefixCache, slots } = this.#options;
    // The last token of an input is always computed: its logits are wanted.
    const known = sequence.job.promptIds.length + sequence.newTokens;
    const rows = Math.min(sequence.rowIds().length, known - 1);
    // Steps in flight may write rows behind the known ones.
    const kvTokens = roundUpToPages(sequence.plannedRows + sequence.mostDrafts);
    if (rows === 0 || prefixCache?.hasCopies(sequence) || !slots.park(sequence.slot, kvTokens)) return false;
    prefixCache?.forget(sequence);
    sequence.parkedRows = rows;
    return true;
  }

  #dropParked(sequence: Sequence): void {
    if (sequence.parkedRows > 0) this.#options.slots.dropParked(sequence.slot);
    sequence.parkedRows = 0;
  }

  /** A job outlives the groups that run it: its signal wakes none that it has left. */
  #forget({ job }: Sequence | TextVector): void {
    job.signal.removeEventListener('abort', this.#options.wake);
  }

  #leaveOut({ sequence }: Sequence, rows: number): void {
    if (rows > 0) this.#options.tellMasks?.(Array.from({ length: rows }, () => ({ sequence, mask: null })));
  }

  /**
   * The group is lost.
   *
   * @param limits deaths that a job survives
   * @param inFlight numbers of the sequences in steps that have not come back
   * @returns jobs that go on in another one, oldest first; the others have ended with the error
   */
  loseAll(error: ServingError, limits: DeathLimits, inFlight: ReadonlySet<number>): GenerationJob[] {
    const back: GenerationJob[] = [];
    for (const sequence of [...this.#running, ...this.#preempted.splice(0)]) {
      const { job, newTokens } = sequence;
      const survives = goesOn(job, error, limits, { newTokens, ran: inFlight.has(sequence.sequence) });
      if (isToBlame(job, limits)) this.deathsOfRequests = Math.max(this.deathsOfRequests, job.deathsHere);
      if (this.#byNumber.has(sequence.sequence)) this.leave(sequence, survives ? 'lost' : 'failed');
      else {
        assert(sequence instanceof Sequence, 'a text to embed is never preempted');
        this.#dropParked(sequence);
        this.#forget(sequence);
      }
      if (!survives) continue;
      if (sequence instanceof Sequence) {
        sequence.preempt();
        job.lost = sequence;
      }
      back.push(job);
    }
    return back;
  }

  #start(job: GenerationJob): SequenceOpen {
    const { clock, drafts = null, observer, onJobStarted, prefixCache, slots } = this.#options;
    const place: Place = prefixCache?.place(job) ?? { slot: slots.take(kvTokensToStart(job)), keptRows: 0 };
    const number = this.#nextNumber++;
    let sequence: Sequence | TextVector;
    if (job.request.kind === 'embed') {
      assert(!prefixCache, 'an embedding model keeps no rows');
      sequence = new TextVector(job, place.slot, number);
    } else {
      const { tellMasks, texts, wake } = this.#options;
      sequence = new Sequence(job, place.slot, number, texts, wake, drafts, tellMasks !== undefined);
      prefixCache?.begin(sequence, place);
    }
    const isFirst = job.startedAtMs === null;
    job.startedAtMs = clock.nowMs();
    this.#add(sequence);
    onJobStarted?.(job);
    const promptTokens = job.promptIds.length + (job.toldPrompt?.length ?? 0);
    if (isFirst) observer?.jobStarted(job.startedAtMs - job.queuedAtMs, promptTokens);
    else observer?.jobResumed?.();
    return { ...sequence.open(), keptRows: place.keptRows };
  }

  #resume(sequence: Sequence): SequenceOpen {
    const { prefixCache, slots } = this.#options;
    const waiting = asWaiting(sequence);
    const { parkedRows, slot } = sequence;
    const kvTokens = kvTokensToStart(waiting);
    if (parkedRows > 0) slots.unpark(slot, kvTokens);
    const place: Place =
      parkedRows > 0
        ? { slot, keptRows: 0 }
        : (prefixCache?.place(sequence.job, waiting) ?? { slot: slots.take(kvTokens), keptRows: 0 });
    sequence.resume(place.slot, this.#nextNumber++);
    prefixCache?.begin(sequence, place);
    this.#add(sequence);
    return { ...sequence.open(), keptRows: parkedRows + place.keptRows };
  }

  #add(sequence: Sequence | TextVector): void {
    this.#running.push(sequence);
    this.#byNumber.set(sequence.sequence, sequence);
  }
}

/** One that was preempted, as a job whose prompt is all it has told. */
export const asWaiting = ({ decodesLeft, inputIds, job, parkedRows }: Sequence): WaitingJob => ({
  keptRows: parkedRows,
  promptIds: inputIds,
  maxNewTokens: decodesLeft + 1,
  queuedAtMs: job.queuedAtMs,
});

/** A job that has lost its group begins with the tokens that it has told. */
export const asQueued = (job: GenerationJob): WaitingJob =>
  job.lost instanceof Sequence ? asWaiting(job.lost) : job;
