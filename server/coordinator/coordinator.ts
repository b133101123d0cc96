/**
 * One group of shard workers: launch, supervise, step, stop; all ranks or none.
 *
 * In      where the shards are and how the ranks shall run; step plans, in order
 * Out     step results, in order; inspections; `failed`, when the group is lost
 * Limits  loadingTimeoutMs until every rank is ready; stepTimeoutMs for a step from when its predecessor is done
 * Errors  WORKER_FAILED naming rank and cause, STEP_TIMEOUT, or the code that a worker reported (SHARDS_INVALID, …).
 *         The first error is final: the other ranks are killed and all that is pending is rejected with it
 *
 * A rank that waits in a collective is deaf: a hung one is found by the kernel's state of its process, the step's deadline, and while
 * it is idle by asking it (watchdog.ts).
 */
import assert from 'node:assert/strict';
import type { Logger } from 'pino';
import type {
  FromWorker,
  Inspection,
  LateMask,
  Ready,
  Step,
  StepResult,
  ToWorker,
} from '../../proto/control.js';
import { isErrorCode, ServingError } from '../../proto/errors.js';
import { CONTROL_VERSION } from '../../proto/limits.js';
import { MemoryKills } from '../machine/memory-kills.js';
import type {
  GroupLaunch,
  RankEvents,
  RankGroup,
  RankHandle,
  RankLauncher,
} from '../machine/ranks/rank-launcher.js';
import { SlowRanks } from './slow-ranks.js';
import { Watchdog, type WatchdogOptions } from './watchdog.js';

const STOP_GRACE_MS = 3000;

export interface CoordinatorOptions {
  /** What all ranks share. */
  launch: GroupLaunch;
  launcher: RankLauncher;
  loadingTimeoutMs: number;
  stepTimeoutMs: number;
  /** A worker that was asked to end gets so long, then SIGTERM, then so long again, then SIGKILL; default 3000. */
  stopGraceMs?: number;
  logger: Logger;
  /** Limits of its own, for tests. */
  watchdog?: Pick<WatchdogOptions, 'deafMs' | 'stoppedMs' | 'stateOf'>;
  /** Who has killed a rank; absent: as the kernel says. For tests. */
  memoryKills?: Pick<MemoryKills, 'look' | 'killerOf'>;
  /** Bytes of weights loaded, over all ranks. */
  onLoading?: (doneBytes: number, totalBytes: number) => void;
}

interface Deferred<T> {
  promise: Promise<T>;
  resolve(value: T): void;
  reject(error: unknown): void;
}

export class Coordinator {
  /** Resolves with the first error of the group; stays pending while it lives and after stop. */
  readonly failed: Promise<ServingError>;
  readonly #options: CoordinatorOptions;
  readonly #ranks: RankGroup;
  readonly #workers: RankHandle[] = [];
  readonly #ready = new Map<number, Ready>();
  readonly #loading = new Map<number, { doneBytes: number; totalBytes: number }>();
  readonly #allReady = deferred<void>();
  readonly #steps: { step: number; rows: number; tokens: number; done: Deferred<StepResult> }[] = [];
  readonly #inspections = new Map<number, { answers: Inspection[]; done: Deferred<Inspection[]> }>();
  readonly #failed = deferred<ServingError>();
  #error: ServingError | null = null;
  #stopping = false;
  #stopped: Promise<void> | null = null;
  #lastStep = 0;
  #stepsDone = 0;
  #lastInspection = 0;
  /** null: not every rank is ready. */
  #watchdog: Watchdog | null = null;
  readonly #slowRanks = new SlowRanks();
  readonly #memoryKills: Pick<MemoryKills, 'look' | 'killerOf'>;

  private constructor(options: CoordinatorOptions, ranks: RankGroup) {
    this.#options = options;
    this.#memoryKills = options.memoryKills ?? new MemoryKills();
    this.#ranks = ranks;
    this.failed = this.#failed.promise;
  }

  /** Resolves when every rank is ready. @throws ServingError after everything started is gone again */
  static async start(options: CoordinatorOptions, signal?: AbortSignal): Promise<Coordinator> {
    const coordinator = new Coordinator(options, await options.launcher.newGroup());
    try {
      await coordinator.#start(signal);
    } catch (error) {
      coordinator.#fail(ServingError.from(error));
      await coordinator.#end();
      throw coordinator.#error;
    }
    return coordinator;
  }

  async #start(signal?: AbortSignal): Promise<void> {
    const { launch, loadingTimeoutMs, logger } = this.#options;
    for (let rank = 0; rank < launch.worldSize; rank++) {
      const events: RankEvents = {
        onMessage: (message) => this.#receive(message),
        onBroken: (error) => this.#failRank(rank, 'broke its control channel', { cause: error }),
      };
      const worker = await this.#ranks.start({ ...launch, rank }, events, logger);
      this.#workers.push(worker);
      if (worker.pid !== undefined) this.#memoryKills.look(worker.pid);
      void worker.exited.then((how) => this.#rankEnded(worker, how));
    }
    const timer = setTimeout(() => {
      const missing = this.#workers.filter((worker) => !this.#ready.has(worker.rank)).map(({ rank }) => rank);
      const limit = loadingTimeoutMs / 1000;
      this.#fail(
        new ServingError(
          'WORKER_FAILED',
          `rank ${missing.join(', ')} not ready after ${limit} s (model_loading_timeout)`,
        ),
      );
    }, loadingTimeoutMs);
    const onAbort = (): void => this.#fail(new ServingError('SHUTTING_DOWN', 'stopped while loading'));
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
    try {
      await this.#allReady.promise;
      this.#watchdog = this.#makeWatchdog();
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  get pids(): readonly (number | undefined)[] {
    return this.#workers.map((worker) => worker.pid);
  }

  /** No rank looks as if it hangs. */
  get isResponsive(): boolean {
    return this.#error === null && this.#watchdog?.isSuspicious !== true;
  }

  /** By rank, how many times as long as its peers it was busy lately. */
  get slowness(): readonly number[] {
    return this.#slowRanks.slowness;
  }

  /** × its peers, where a rank holds them up; null: it does not. */
  slowerThanPeers(rank: number): number | null {
    return this.#slowRanks.slowerThanPeers(rank);
  }

  get stepsDone(): number {
    return this.#stepsDone;
  }

  /** Load and warm-up times, by rank. */
  get readiness(): readonly Ready[] {
    return [...this.#ready.entries()].sort(([a], [b]) => a - b).map(([, ready]) => ready);
  }

  /** Runs after every step called before it. @throws ServingError: the group is lost */
  step(plan: Omit<Step, 'step'>): Promise<StepResult> {
    if (this.#error) return Promise.reject(this.#error);
    if (this.#stopping) return Promise.reject(stopped());
    const step = ++this.#lastStep;
    const done = deferred<StepResult>();
    const tokens = plan.rows.reduce((sum, row) => sum + row.tokens + (row.draftIds?.length ?? 0), 0);
    this.#steps.push({ step, rows: plan.rows.length, tokens, done });
    this.#broadcast({ body: 'step', step: { ...plan, step } });
    if (this.#steps.length === 1) this.#watchdog?.stepStarted(step, tokens);
    return done.promise;
  }

  /** Masks of rows that are in steps without (Row.maskFollows), of each sequence in the order of its rows. */
  tellMasks(masks: LateMask[]): void {
    if (!this.#error && !this.#stopping) this.#broadcast({ body: 'masks', masks: { masks } });
  }

  /** What every rank says of itself, by rank; answered after the steps that were sent before. */
  inspect(): Promise<Inspection[]> {
    if (this.#error) return Promise.reject(this.#error);
    const id = ++this.#lastInspection;
    const done = deferred<Inspection[]>();
    this.#inspections.set(id, { answers: [], done });
    this.#broadcast({ body: 'inspect', inspect: { id } });
    return done.promise;
  }

  /** Ends every rank: by request, then SIGTERM, then SIGKILL. Resolves when all are gone. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    this.#stopping = true;
    this.#watchdog?.stop();
    if (!this.#error) this.#broadcast({ body: 'shutdown', shutdown: {} });
    await this.#end();
    this.#rejectPending(stopped());
  }

  /** Waits for every process, with growing insistence, and removes the sockets. */
  async #end(): Promise<void> {
    const { stopGraceMs = STOP_GRACE_MS } = this.#options;
    await Promise.all(
      this.#workers.map(async (worker) => {
        if (!this.#error) {
          if (await exitsWithin(worker, stopGraceMs)) return;
          worker.kill('SIGTERM');
          if (await exitsWithin(worker, stopGraceMs)) return;
        }
        worker.kill('SIGKILL');
        await worker.exited;
      }),
    );
    for (const worker of this.#workers) worker.close();
    const left = await this.#ranks.close();
    if (left) this.#options.logger.warn({ err: left }, 'the folder of a group that has ended is still there');
  }

  #broadcast(message: ToWorker): void {
    for (const worker of this.#workers) worker.send(message);
  }

  #receive(message: FromWorker): void {
    // What was on its way when the group was lost is for nobody.
    if (this.#error) return;
    switch (message.body) {
      case 'loading':
        this.#loading.set(message.rank, message.loading);
        this.#reportLoading();
        break;
      case 'ready':
        if (message.ready.version !== CONTROL_VERSION) {
          const versions = `version ${message.ready.version} of the control messages, this server ${CONTROL_VERSION}`;
          this.#failRank(message.rank, `speaks ${versions}`);
          return;
        }
        this.#ready.set(message.rank, message.ready);
        this.#logReady(message.rank, message.ready);
        if (this.#ready.size === this.#options.launch.worldSize) this.#allReady.resolve();
        break;
      case 'result':
        this.#takeResult(message.rank, message.result);
        break;
      case 'inspection':
        this.#takeInspection(message.inspection);
        break;
      case 'failure': {
        const { code, message: text } = message.failure;
        const known = isErrorCode(code) ? code : 'WORKER_FAILED';
        this.#fail(new ServingError(known, `rank ${message.rank}: ${text}`));
        break;
      }
    }
  }

  #logReady(rank: number, { loadMs, pid, warmUpMs }: Ready): void {
    const times = { loadMs: Math.round(loadMs), warmUpMs: Math.round(warmUpMs) };
    this.#options.logger.info({ rank, workerPid: pid, ...times }, 'shard worker ready');
  }

  #takeResult(rank: number, result: StepResult): void {
    const expected = this.#steps[0];
    assert(rank === 0 && expected, `rank ${rank} sent a result that nobody waits for`);
    assert.equal(result.step, expected.step, 'results come in the order of the steps');
    assert.equal(result.rows.length, expected.rows, 'a result has as many rows as its step');
    // Only now: a result that is refused fails the group, and this step with it.
    this.#steps.shift();
    this.#stepsDone++;
    const [next] = this.#steps;
    if (next) this.#watchdog?.stepStarted(next.step, next.tokens);
    else this.#watchdog?.stepEnded();
    expected.done.resolve(result);
  }

  #takeInspection(inspection: Inspection): void {
    const waiting = this.#inspections.get(inspection.id);
    assert(waiting, `inspection ${inspection.id} was not asked for`);
    waiting.answers.push(inspection);
    if (waiting.answers.length < this.#workers.length) return;
    this.#inspections.delete(inspection.id);
    const order = this.#workers.map((worker) => worker.pid);
    waiting.done.resolve(waiting.answers.sort((a, b) => order.indexOf(a.pid) - order.indexOf(b.pid)));
  }

  #reportLoading(): void {
    // Before every rank has told its size the sum is not the whole.
    if (this.#loading.size < this.#options.launch.worldSize) return;
    let done = 0;
    let total = 0;
    for (const { doneBytes, totalBytes } of this.#loading.values()) {
      done += doneBytes;
      total += totalBytes;
    }
    this.#options.onLoading?.(done, total);
  }

  #makeWatchdog(): Watchdog {
    const { logger, stepTimeoutMs, watchdog } = this.#options;
    return new Watchdog({
      ...{ stepTimeoutMs, logger, ...watchdog },
      group: { pids: this.pids, ask: () => this.#lookAtRanks(), deafRanks: () => this.#deafRanks() },
      onHung: (error) => this.#fail(error),
    });
  }

  async #lookAtRanks(): Promise<void> {
    const { logger } = this.#options;
    for (const pid of this.pids) if (pid !== undefined) this.#memoryKills.look(pid);
    const { recovered, slower } = this.#slowRanks.look(await this.inspect());
    for (const rank of slower) {
      const times = Number(this.slowness[rank]?.toFixed(1));
      const fields = { rank, workerPid: this.#workers[rank]?.pid, times };
      logger.warn(fields, `rank ${rank} is busy ${times} times as long as its peers, who wait for it`);
    }
    for (const rank of recovered) logger.info({ rank }, `rank ${rank} keeps up again`);
  }

  #rankEnded({ pid, rank }: RankHandle, how: string): void {
    const isKilled = how.endsWith('SIGKILL') && pid !== undefined;
    const killer = isKilled ? this.#memoryKills.killerOf(pid) : null;
    if (killer?.by === 'kernel') this.#failRank(rank, `${how}, ${killer.sentence}`);
    else this.#failRank(rank, how, { fromOutside: killer?.by === 'somebody' });
  }

  /** Ranks that owe the oldest inspection an answer. */
  #deafRanks(): number[] {
    const [oldest] = this.#inspections.values();
    const heard = oldest?.answers.map(({ pid }) => pid) ?? [];
    return this.#workers.filter(({ pid }) => !heard.includes(pid ?? -1)).map(({ rank }) => rank);
  }

  #failRank(rank: number, how: string, options?: { cause?: unknown; fromOutside?: boolean }): void {
    if (this.#stopping) return;
    this.#fail(new ServingError('WORKER_FAILED', `rank ${rank} ${how}`, options));
  }

  /** The first error is the group's end. */
  #fail(error: ServingError): void {
    if (this.#error) return;
    this.#error = error;
    this.#watchdog?.stop();
    for (const worker of this.#workers) worker.kill('SIGKILL');
    this.#allReady.reject(error);
    this.#rejectPending(error);
    this.#failed.resolve(error);
  }

  #rejectPending(error: ServingError): void {
    for (const { done } of this.#steps.splice(0)) done.reject(error);
    for (const { done } of this.#inspections.values()) done.reject(error);
    this.#inspections.clear();
  }
}

const stopped = (): ServingError => new ServingError('SHUTTING_DOWN', 'The server is being stopped');

async function exitsWithin(worker: RankHandle, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  const exited = await Promise.race([worker.exited.then(() => true), late]);
  clearTimeout(timer);
  return exited;
}

/** A promise and its handles; its rejection may go unseen. */
function deferred<T>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  promise.catch(() => {});
  return { promise, resolve, reject };
}
