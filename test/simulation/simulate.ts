/**
 * One seed: a pool lives through requests, cancels, faults, scaling and its end, in virtual time.
 *
 * In      a seed
 * Out     what broke the invariants, and how much happened
 * Invariants, after every event
 *         slots and KV tokens of every group add up to what its loop runs; no job starts before one that is due earlier; no job waits
 *         for STARVED_MS while a healthy group has room for it
 * and at the end
 *         every accepted job has ended, once, within LIMIT_MS; with its own tokens in order, or a beginning of them and an error that it
 *         has cause for; no rank, no timer is left
 */
import { ServingError } from '../../proto/errors.js';
import { deathLimits } from '../../server/batching/resumption.js';
import type { GenerationJob, TokenConstraint } from '../../server/jobs/generation-job.js';
import type { GenerationEvent } from '../../server/requests/job-events.js';
import { makeRequest, readAll, tokenIdsOf } from '../fixtures/generate-requests.js';
import { type SeededRandom, seededRandom } from '../fixtures/seeded-random.js';
import { FAKE_VOCAB, fakeTokens } from '../support/fake-rank.js';
import { constraintOf, hasForm } from './simulated-forms.js';
import { type PoolSizes, SimulatedPool } from './simulated-pool.js';
import { type FaultRates, SimulatedRanks } from './simulated-ranks.js';
import { VirtualTime } from './virtual-time.js';

const LIMIT_MS = 3_600_000;
const STARVED_MS = 5000;
const MAX_PROMPT = 90;
const MAX_NEW = 30;
/** Used by seeds in which some are preempted: answers outgrow what they begin with. */
const MOST_NEW = 300;
const NO_SWAP = { slots: 0, kvTokens: 0 };

export interface Outcome {
  seed: number;
  violations: string[];
  accepted: number;
  steps: number;
  faults: number;
  resumed: number;
  preempted: number;
  virtualMs: number;
}

export async function simulate(seed: number): Promise<Outcome> {
  const time = new VirtualTime();
  time.install();
  try {
    return await new Simulation(seed, time).run();
  } finally {
    time.uninstall();
  }
}

interface Submitted {
  job: GenerationJob | null;
  cancelled: boolean;
  result: Awaited<ReturnType<typeof readAll>> | null;
}

class Simulation {
  readonly #seed: number;
  readonly #time: VirtualTime;
  readonly #random: SeededRandom;
  /** Chances for what came to the simulation later. */
  readonly #more: SeededRandom;
  readonly #swapTokens: number;
  readonly #maxNew: number;
  readonly #ranks: SimulatedRanks;
  readonly #simulated: SimulatedPool;
  readonly #config: PoolSizes['config'];
  readonly #submitted: Submitted[] = [];
  readonly #violations: string[] = [];
  #unfinished = 0;
  #scaledToNone = false;
  #closing = false;
  #closed = false;
  #starvedSinceMs: number | null = null;

  constructor(seed: number, time: VirtualTime) {
    this.#seed = seed;
    this.#time = time;
    const random = seededRandom(seed);
    this.#random = random;
    const maxSlots = random.integer(1, 5);
    const warmSlots = random.next() < 0.5 ? random.integer(1, 3) : 0;
    const minGroups = random.integer(0, 2);
    this.#config = {
      ...{
        minGroups,
        maxGroups: Math.max(minGroups, random.integer(1, 3)),
        jobQueueSize: random.integer(3, 30),
      },
      ...{ requestRetries: random.integer(0, 3), predictTimeoutSeconds: random.integer(5, 120) },
      ...{ stepTimeoutSeconds: random.integer(2, 10), modelLoadingTimeoutSeconds: 5 },
      ...{ retryThreshold: random.next() < 0.3 ? 3 : 1000, retryCoolDownSeconds: random.integer(0, 5) },
      ...{ maxIdleSeconds: random.integer(1, 60), scaleFromZero: random.next() < 0.5 },
    };
    // Chances of their own, so that a seed means what it meant.
    const swaps = seededRandom(seed + 2 ** 21);
    const swap = swaps.next() < 0.5 ? { slots: maxSlots, kvTokens: 64 * swaps.integer(1, 8) } : NO_SWAP;
    const more = seededRandom(seed + 2 ** 23);
    this.#more = more;
    const maxDrafts = more.next() < 0.5 ? more.integer(1, 12) : 0;
    const drafts = maxDrafts > 0 && more.next() < 0.7 ? more.integer(1, 6) : 0;
    const batchSize = more.next() < 0.15 ? more.integer(1, 4) : null;
    const scheduling = more.pick(['throughput', 'balanced', 'latency'] as const);
    this.#config.promptOrder = more.pick(['shortest', 'fair'] as const);
    const isLong = more.next() < 0.15;
    this.#maxNew = isLong ? MOST_NEW : MAX_NEW;
    const slotTokens = MAX_PROMPT + this.#maxNew;
    const worldSize = random.integer(1, 2);
    const usualPages = random.integer(2, 2 * maxSlots);
    // What they begin with, and little more.
    const fewPages = Math.max(Math.ceil(slotTokens / 64), 3 * maxSlots - more.integer(0, 2));
    const sizes: PoolSizes = {
      ...{ swap, maxDrafts, drafts, batchSize, scheduling },
      ...{ worldSize, maxSlots, warmSlots, slotTokens },
      ...{ kvTokens: 64 * (isLong ? fewPages : usualPages), maxPrefill: 24, config: this.#config },
    };
    const whose = seededRandom(seed + 2 ** 22);
    const killsAlone = whose.next() < 0.2;
    const kills = { killsAlone, fromOutside: killsAlone ? 1 : whose.next() };
    const rates: FaultRates =
      random.next() < 0.2
        ? { start: 0, drop: 0, delay: 0, everyMs: null, ...kills }
        : {
            ...kills,
            ...{ start: random.next() * 0.2, delay: random.next() * 0.02 },
            drop: random.next() < 0.3 ? random.next() * 0.005 : 0,
            everyMs: random.next() < 0.2 ? null : 50 + random.next() ** 3 * 5000,
          };
    if (killsAlone) Object.assign(rates, { start: 0, drop: 0, delay: 0 });
    this.#ranks = new SimulatedRanks(time, random, whose, rates, {
      ...{ maxSlots: maxSlots + warmSlots + swap.slots, slotTokens: sizes.slotTokens },
      kvTokens: sizes.kvTokens + swap.kvTokens,
      maxStepTokens: sizes.maxPrefill + maxSlots + maxDrafts,
      maxDrafts,
      needsMask: hasForm,
    });
    const masks = seededRandom(seed + 2 ** 20);
    const constrain = (promptIds: readonly number[], told: number): TokenConstraint | null =>
      hasForm(promptIds) ? constraintOf(promptIds, told, masks) : null;
    this.#swapTokens = swap.kvTokens;
    this.#simulated = new SimulatedPool(
      sizes,
      this.#ranks,
      (job) => this.#checkOrder(job),
      constrain,
      (ids, most) => this.#guess(ids, most),
    );
  }

  /** What follows, now and then with one that does not. */
  #guess(ids: readonly number[], most: number): number[] {
    const job = this.#simulated.jobs.find(({ promptIds }) =>
      promptIds.every((id, index) => ids[index] === id),
    );
    if (!job) return [];
    const made = ids.length - job.promptIds.length;
    const wrong = this.#more.integer(0, 2 * most);
    const right = fakeTokens(job.promptIds, made + most).slice(made);
    return right.map((id, index) => (index === wrong ? id + 1 : id)).slice(0, this.#more.integer(0, most));
  }

  async run(): Promise<Outcome> {
    const { pool } = this.#simulated;
    let starts = true;
    pool.start().then(
      () => {
        starts = false;
        this.#plan();
      },
      () => {
        starts = false;
        this.#close();
      },
    );
    const isDone = (): boolean => !starts && this.#closed;
    await this.#time.run(isDone, LIMIT_MS, () => this.#check());
    // What was set to happen happens.
    if (isDone())
      await this.#time.run(
        () => false,
        this.#time.nowMs + 1,
        () => {},
      );
    this.#checkEnd(isDone());
    return {
      ...{ seed: this.#seed, violations: [...this.#violations, ...this.#ranks.violations] },
      accepted: this.#simulated.jobs.length,
      ...{ steps: this.#ranks.steps, faults: this.#ranks.faults, resumed: this.#simulated.resumed },
      preempted: this.#simulated.preempted,
      virtualMs: this.#time.nowMs,
    };
  }

  #plan(): void {
    const random = this.#random;
    const requests = random.integer(4, 24);
    const spanMs = random.pick([200, 2000, 20_000]);
    this.#unfinished = requests;
    for (let request = 0; request < requests; request++)
      this.#time.after(random.next() * spanMs, () => void this.#request());
    for (let scale = random.integer(0, 3); scale > 0; scale--)
      this.#time.after(random.next() * 2 * spanMs, () => this.#scale());
    // What runs is given a while without faults.
    this.#time.after(spanMs + 10_000, () => this.#ranks.calm());
    if (random.next() < 0.2) this.#time.after(random.next() * 2 * spanMs, () => this.#close());
  }

  async #request(): Promise<void> {
    const random = this.#random;
    const earlier = random.next() < 0.5 ? random.pick(this.#simulated.jobs) : undefined;
    const fresh = Array.from({ length: random.integer(1, MAX_PROMPT) }, () =>
      random.integer(0, FAKE_VOCAB - 1),
    );
    const ids = [...(earlier?.promptIds ?? []), ...fresh].slice(0, MAX_PROMPT);
    const maxNewTokens = random.integer(1, this.#maxNew);
    const room = MAX_PROMPT + this.#maxNew - ids.length - maxNewTokens;
    const told = this.#more.next() < 0.15 ? this.#more.integer(0, Math.min(room, 40)) : 0;
    const request = makeRequest({
      prompt: { kind: 'ids', ids },
      maxNewTokens,
      ...(told > 0 && { promptLogprobs: told }),
      stopTokenIds: random.next() < 0.3 ? [random.integer(0, FAKE_VOCAB - 1), random.integer(0, 60)] : [],
      priority: random.integer(-10, 10),
      ...(random.next() < 0.1 && { timeoutMs: random.integer(1, 5000) }),
    });
    const abort = new AbortController();
    const submitted: Submitted = { job: null, cancelled: false, result: null };
    const cancelMs = random.next() < 0.15 ? random.next() * 3000 : null;
    if (cancelMs !== null)
      this.#time.after(cancelMs, () => {
        submitted.cancelled = true;
        abort.abort();
      });
    const { jobs, pool } = this.#simulated;
    const before = jobs.length;
    try {
      const { events } = await pool.submit(request, abort.signal);
      submitted.job =
        jobs.slice(before).find((job) => job.request === request || job.stream === events) ?? null;
      this.#submitted.push(submitted);
      submitted.result = await readAll(events);
    } catch (error) {
      this.#checkRefusal(error, submitted.cancelled);
    }
    if (--this.#unfinished === 0) this.#close();
  }

  #scale(): void {
    if (this.#closing) return;
    const most = this.#random.integer(0, 3);
    if (most === 0) this.#scaledToNone = true;
    this.#simulated.pool.scale(this.#random.integer(0, most), most);
  }

  #close(): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#ranks.calm();
    void this.#simulated.pool.close().then(() => {
      this.#closed = true;
    });
  }

  /** Where it stands in the queue is bounded by its priority (job-queue.ts). */
  #dueMs({ priority, queuedAtMs }: GenerationJob): number {
    const maxWaitMs = this.#config.predictTimeoutSeconds! * 1000;
    return queuedAtMs + (maxWaitMs / 4) * (priority / (Math.abs(priority) + 10));
  }

  #checkOrder(job: GenerationJob): void {
    const waiting = this.#simulated.queue?.waiting ?? [];
    const earlier = waiting.find((one) => this.#dueMs(one) < this.#dueMs(job) - 1e-6);
    if (earlier) this.#violate(`job ${job.id} starts before job ${earlier.id}, which is due earlier`);
  }

  #check(): void {
    const { lives, pool, queue } = this.#simulated;
    for (const { replica, slots } of lives) {
      const { running } = replica.load;
      if (slots.maxSlots - slots.freeSlots !== running)
        this.#violate(`${slots.maxSlots - slots.freeSlots} slots are taken by ${running} sequences`);
      if (slots.parkedKvTokens > this.#swapTokens)
        this.#violate(`${slots.parkedKvTokens} KV tokens are parked in ${this.#swapTokens}`);
      if (slots.freeKvTokens < 0 || slots.freeKvTokens > slots.kvTokens)
        this.#violate(`${slots.freeKvTokens} of ${slots.kvTokens} KV tokens are free`);
      if (running === 0 && slots.freeKvTokens !== slots.kvTokens)
        this.#violate(`nothing runs, and ${slots.freeKvTokens} of ${slots.kvTokens} KV tokens are free`);
    }
    const isStarved =
      (queue?.length ?? 0) > 0 &&
      pool.groups.running.some((group) => (group.load?.room ?? 0) > 0 && this.#ranks.isHealthy(group.pids));
    if (!isStarved) this.#starvedSinceMs = null;
    else this.#starvedSinceMs ??= this.#time.nowMs;
    if (this.#starvedSinceMs !== null && this.#time.nowMs - this.#starvedSinceMs > STARVED_MS) {
      this.#violate(`${queue!.length} jobs wait while a healthy group has room`);
      this.#starvedSinceMs = null;
    }
  }

  #checkRefusal(error: unknown, cancelled: boolean): void {
    const code = error instanceof ServingError ? error.code : 'a bug';
    const fits =
      code === 'QUEUE_FULL' ||
      code === 'REQUEST_TIMEOUT' ||
      (code === 'CANCELLED' && cancelled) ||
      (code === 'NO_WORKERS' && this.#scaledToNone) ||
      (code === 'NO_WORKERS' && this.#config.maxGroups === 0) ||
      (code === 'MODEL_NOT_READY' && this.#simulated.failed) ||
      (code === 'SHUTTING_DOWN' && this.#closing);
    if (!fits) this.#violate(`refused without cause: ${String(error)}`);
  }

  #checkEnd(isDone: boolean): void {
    const { endings, jobs, lives } = this.#simulated;
    if (!isDone)
      this.#violate(`not at its end after ${Math.round(this.#time.nowMs)} ms, ${this.#unfinished} left`);
    for (const job of jobs)
      if (!job.stream.ended && this.#wasQueued(job)) this.#violate(`job ${job.id} has not ended`);
    for (const one of this.#submitted) this.#checkJob(one);
    if (endings.length !== this.#submitted.length)
      this.#violate(`${endings.length} ends of ${this.#submitted.length} accepted jobs were told`);
    for (const sentence of this.#simulated.nonsense) this.#violate(sentence);
    this.#checkMade();
    if (!isDone) return;
    for (const { slots } of lives)
      if (
        slots.freeSlots !== slots.maxSlots ||
        slots.freeKvTokens !== slots.kvTokens ||
        slots.parkedKvTokens > 0
      )
        this.#violate('a group that has ended holds slots');
    if (this.#ranks.living > 0) this.#violate(`${this.#ranks.living} ranks are left`);
    if (this.#time.pending > 0) this.#violate(`${this.#time.pending} timers are left`);
  }

  /** As the metrics count them. */
  #checkMade(): void {
    if (this.#submitted.some(({ result }) => result?.error !== null)) return;
    const told = this.#submitted.reduce((sum, { result }) => sum + tokenIdsOf(result!.events).length, 0);
    if (told !== this.#simulated.made) this.#violate(`${this.#simulated.made} tokens are counted of ${told}`);
  }

  #wasQueued(job: GenerationJob): boolean {
    return this.#submitted.some((one) => one.job === job);
  }

  #checkJob({ cancelled, job, result }: Submitted): void {
    if (job === null || result === null) {
      this.#violate(`the reader of job ${job?.id} still waits`);
      return;
    }
    const answer = tokenIdsOf(result.events);
    const ids = [...promptIdsOf(result.events), ...answer];
    const told = ids.join();
    const alone = fakeTokens(job.promptIds, job.maxNewTokens, job.endIds, job.toldPrompt?.length ?? 0);
    if (result.error === null) {
      const last = result.events.at(-1);
      if (
        last?.kind !== 'finish' ||
        last.newTokens !== answer.length ||
        (last.cachedTokens ?? 0) >= job.promptIds.length
      )
        this.#violate(`job ${job.id} of ${answer.length} tokens ends with ${JSON.stringify(last)}`);
      if (told !== alone.join()) this.#violate(`job ${job.id} got ${told}, alone it gets ${alone.join()}`);
      return;
    }
    if (told !== alone.slice(0, ids.length).join())
      this.#violate(`job ${job.id} got ${told} before its error`);
    const code = result.error instanceof ServingError ? result.error.code : 'a bug';
    const fits =
      (code === 'CANCELLED' && cancelled) ||
      code === 'REQUEST_TIMEOUT' ||
      ((code === 'WORKER_FAILED' || code === 'STEP_TIMEOUT') && this.#mayBeBlamed(job)) ||
      (code === 'MODEL_NOT_READY' && this.#simulated.failed) ||
      (code === 'NO_WORKERS' && this.#scaledToNone) ||
      (code === 'SHUTTING_DOWN' && this.#closing);
    if (!fits)
      this.#violate(`job ${job.id} ended without cause, after ${job.deaths} deaths: ${String(result.error)}`);
  }

  /** It was in more deaths than it may be: in all, or in those that were nobody's from outside. */
  #mayBeBlamed(job: GenerationJob): boolean {
    const { requestRetries, retryThreshold } = this.#config;
    const { mostDeaths, retries } = deathLimits(requestRetries!, retryThreshold!);
    const inside = this.#ranks.faults - this.#ranks.fromOutside;
    return job.deaths > mostDeaths || (job.deaths > retries && inside > retries);
  }

  #violate(sentence: string): void {
    if (this.#violations.length < 5)
      this.#violations.push(`at ${this.#time.nowMs.toFixed(1)} ms: ${sentence}`);
  }
}

/** Those that are told behind the first. */
const promptIdsOf = (events: readonly GenerationEvent[]): number[] =>
  events.flatMap((event) => (event.kind === 'prompt-token' ? [event.tokenId] : [])).slice(1);
