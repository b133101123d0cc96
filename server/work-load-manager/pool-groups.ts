/**
 * The groups of a pool: how many there are, who of them may take a job, what happens when one dies.
 *
 * In      what a group is made of; limits; the pool's queue
 * Out     groups that come and go with the load (scaling.ts), within the memory there is
 * Limits  min … max groups; retry_threshold deaths in DEATH_WINDOW_MS, without those that were a request's fault
 * Errors  OUT_OF_MEMORY from start and setLimits, CONFIG_INVALID: more groups than there are devices for. A group of the backlog that finds no memory is logged and not started
 *
 * After too many deaths, or one that no start can mend, `failure` is set: what runs ends in peace, and nothing starts until a cool-down
 * is over (cool-down.ts) or somebody asks: then ONE group is tried, and if it runs the pool serves again.
 */
import type { Logger } from 'pino';
import { ServingError } from '../../proto/errors.js';
import type { ModelConfig } from '../config/config.js';
import type { FittedModel, ReplicaHooks } from '../engines/engine.js';
import { systemClock } from '../jobs/clock.js';
import type { JobQueue } from '../jobs/job-queue.js';
import type { CoreUser } from '../machine/core-yield.js';
import { usableCores } from '../machine/machine-limits.js';
import type { MemoryLedger } from '../machine/memory-ledger.js';
import { checkMemory } from '../machine/memory-need.js';
import { CoolDown } from './cool-down.js';
import { DeviceBound } from './device-bound.js';
import { aheadOf, mayStart } from './may-start.js';
import { isLive, nextScaling, type ScalingState, scalingDueAtMs } from './scaling.js';
import { DEATH_WINDOW_MS, WorkerGroup } from './worker-group.js';

/** A group that found no memory is not tried again before. */
const REFUSED_START_MS = 10_000;

export interface PoolGroupsOptions {
  /** The model's name, and its version where it has one. */
  id: string;
  config: ModelConfig;
  model: FittedModel;
  /** Processes of a group. */
  worldSize: number;
  queue: JobQueue;
  ledger: MemoryLedger;
  /** Groups of other models run on this machine, or will; default: they do not. */
  hasNeighbours?: () => boolean;
  /** Threads of the groups of other models; default: none. */
  otherThreads?: () => number;
  logger: Logger;
  hooks?: ReplicaHooks;
  /** Too many have died. */
  onFailed: () => void;
  /** A group has come, gone or changed, or one could not be started. */
  onChange?: () => void;
}

interface Member {
  group: WorkerGroup;
  giveBack: () => void;
}

export class PoolGroups {
  readonly threadsPerRank: number;
  readonly #options: PoolGroupsOptions;
  readonly #members: Member[] = [];
  readonly #stopping = new Set<Promise<void>>();
  #minGroups: number;
  #maxGroups: number;
  #failure: ServingError | null = null;
  #closed = false;
  #nextGroup = 1;
  #deathsMs: number[] = [];
  #cancelTimer: (() => void) | null = null;
  /** Groups are started by start(), one after the other. */
  #starting = true;
  #toldOversubscribed = false;
  /** The last group that could not be started, until it is tried again. */
  #refusal: { error: ServingError; untilMs: number } | null = null;
  #runningGroups = 0;
  readonly #coolDown: CoolDown;
  readonly #devices: DeviceBound;
  /** A start of one group of a pool that has failed. */
  #trial: Promise<void> | null = null;

  /** @throws ServingError CONFIG_INVALID */
  constructor(options: PoolGroupsOptions) {
    const { config, worldSize } = options;
    this.#options = options;
    this.#devices = new DeviceBound(options.id, worldSize, options.model.mostReplicas);
    this.#devices.check(config.minGroups);
    this.#minGroups = config.minGroups;
    this.#maxGroups = this.#devices.within(config.fillDevices ? Number.POSITIVE_INFINITY : config.maxGroups);
    this.#coolDown = new CoolDown(config.retryCoolDownSeconds * 1000, systemClock, () => void this.#try());
    this.threadsPerRank = config.threadsPerRank ?? Math.max(1, Math.floor(usableCores() / worldSize));
  }

  get minGroups(): number {
    return this.#minGroups;
  }

  get maxGroups(): number {
    return this.#maxGroups;
  }

  /** Groups that there may be: one that a request starts, where none is wanted otherwise. */
  get mostGroups(): number {
    return this.#maxGroups === 0 && this.#options.config.scaleFromZero ? 1 : this.#maxGroups;
  }

  get all(): readonly WorkerGroup[] {
    return this.#members.map(({ group }) => group);
  }

  /** Why nothing is served any more; null: it is. */
  get failure(): ServingError | null {
    return this.#failure;
  }

  /** Until a pool that has failed is tried again; 0: now; null: not by itself. */
  get nextTryMs(): number | null {
    return this.#trial === null ? this.#coolDown.remainingMs : 0;
  }

  /** Why the group that is wanted was not started; null: it was. */
  get refusal(): ServingError | null {
    return this.#refusal?.error ?? null;
  }

  get running(): readonly WorkerGroup[] {
    return this.all.filter((group) => group.state === 'running');
  }

  /** Jobs that the groups could start at once. */
  get room(): number {
    return this.running.reduce((sum, group) => sum + (group.load?.room ?? 0), 0);
  }

  /** Jobs that no group has room for. */
  get backlog(): number {
    return Math.max(0, this.#options.queue.length + aheadOf(this.running) - this.room);
  }

  /** As the cores of this machine see it. */
  get coreUse(): Omit<CoreUser, 'id'> {
    const running = this.running.reduce((sum, group) => sum + (group.load?.running ?? 0), 0);
    const pids = this.all.flatMap((group) => group.pids);
    return { backlog: this.backlog, running, pids: pids.filter((pid) => pid !== undefined) };
  }

  /** Threads of the ranks of all groups there are. */
  get threads(): number {
    return this.all.filter(isLive).length * this.#options.worldSize * this.threadsPerRank;
  }

  /** Ranks of the groups there are, with those of other models, have more threads than there are cores. */
  get coresOversubscribed(): boolean {
    return this.threads > 0 && this.threads + this.#otherThreads > usableCores();
  }

  get #otherThreads(): number {
    return this.#options.otherThreads?.() ?? 0;
  }

  /** Resolves when minGroups run. @throws ServingError of the first that does not start */
  async start(): Promise<void> {
    while (this.all.length < this.#minGroups && !this.#closed) await this.#addGroup('below minimum').start();
    if (this.#minGroups === 0) this.#checkMemory();
    this.#starting = false;
    this.scale();
  }

  /** @throws ServingError OUT_OF_MEMORY, CONFIG_INVALID: nothing has changed */
  setLimits(minGroups: number, maxGroups: number): void {
    this.#devices.check(minGroups);
    const more = minGroups - this.all.filter(isLive).length;
    if (more > 0) this.#checkMemory(more);
    this.#devices.checkFree(more, () => this.#options.model.claimDevices?.() ?? null);
    this.#minGroups = minGroups;
    this.#maxGroups = this.#devices.within(maxGroups);
    this.#options.logger.info({ minGroups, maxGroups: this.#maxGroups }, 'worker pool scaled');
    this.scale();
  }

  /** Does not wait for the end of the cool-down. Resolves when the pool serves again. @throws ServingError: it does not */
  async retry(): Promise<void> {
    if (!this.#failure) return;
    if (this.#trial === null) this.#coolDown.now();
    await this.#trial;
    if (this.#failure) throw this.#failure;
  }

  /** Ends every worker. */
  async stop(): Promise<void> {
    this.#closed = true;
    this.#cancelTimer?.();
    this.#coolDown.stop();
    for (const group of this.all) this.#release(group, group.stop());
    await Promise.all(this.#stopping);
  }

  /** Starts and stops groups until all is as it should be, and comes back when that changes by time alone. */
  scale(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    if (this.#closed || this.#starting || this.#failure) return;
    const nowMs = systemClock.nowMs();
    for (let action = nextScaling(this.#scalingState(), nowMs); action; ) {
      if (action.kind === 'stop') this.#removeGroup(action.id, action.why);
      else if (!this.#tryAddGroup(action.why, nowMs)) break;
      action = nextScaling(this.#scalingState(), nowMs);
    }
    const dueMs = scalingDueAtMs(this.#scalingState());
    // What a group's change has set on the way.
    (this.#cancelTimer as (() => void) | null)?.();
    if (dueMs !== null) this.#cancelTimer = systemClock.at(dueMs, () => this.scale());
  }

  #scalingState(): ScalingState {
    const { batchSize, maxIdleSeconds } = this.#options.config;
    return {
      minGroups: this.#minGroups,
      maxGroups: this.mostGroups,
      groups: this.all,
      waiting: this.#options.queue.length,
      backlog: this.backlog,
      batchSize,
      maxIdleMs: maxIdleSeconds * 1000,
    };
  }

  /** @throws ServingError OUT_OF_MEMORY */
  #checkMemory(groups = 1): void {
    const { config, id, ledger, model } = this.#options;
    const { need } = model;
    checkMemory(id, need, ledger.freeBytes() - (groups - 1) * need.totalBytes, config);
  }

  #tryAddGroup(why: string, nowMs: number): boolean {
    try {
      if (this.#refusal && nowMs < this.#refusal.untilMs) throw this.#refusal.error;
      this.#addGroup(why).begin();
      this.#refusal = null;
      return true;
    } catch (error) {
      const refusal = ServingError.from(error);
      if (refusal !== this.#refusal?.error) {
        this.#refusal = { error: refusal, untilMs: nowMs + REFUSED_START_MS };
        this.#options.logger.warn({ code: refusal.code, why }, refusal.message);
        this.#options.onChange?.();
      }
      // Nobody would ever take what waits.
      if (!this.all.some(isLive)) this.#options.queue.failAll(refusal);
      return false;
    }
  }

  /** @throws ServingError OUT_OF_MEMORY */
  #addGroup(why: string): WorkerGroup {
    this.#checkMemory();
    const { config, hooks = {}, ledger, model, queue } = this.#options;
    const claim = model.claimDevices?.() ?? null;
    const id = this.#nextGroup++;
    const logger = this.#options.logger.child({ groupId: id });
    const group: WorkerGroup = new WorkerGroup({
      id,
      newReplica: (onIdle) =>
        model.newReplica({
          ...{ queue, logger, hooks, onIdle },
          threads: this.threadsPerRank,
          ...(claim && { devices: claim.devices }),
          sharesCores: this.mostGroups > 1 || (this.#options.hasNeighbours?.() ?? false),
          mayStart: () => mayStart(group, this.running, queue, config.batching),
          othersHaveRoom: () => this.room > 0,
        }),
      ...(claim && { devices: claim.devices }),
      logger,
      nowMs: systemClock.nowMs,
      onDeath: (error, isLasting, ofRequests) => this.#countDeath(error, isLasting, ofRequests),
      onChange: () => this.#groupChanged(),
      onRestart: () => hooks.observer?.groupRestarted(),
    });
    const giveMemoryBack = ledger.reserve(model.need.totalBytes, () => group.pids);
    const giveBack = (): void => {
      giveMemoryBack();
      claim?.giveBack();
    };
    this.#members.push({ group, giveBack });
    logger.info(
      { why, ...(claim && { gpus: claim.devices }), groups: this.all.filter(isLive).length },
      'worker group starts',
    );
    this.#tellOversubscribed();
    return group;
  }

  #removeGroup(id: number, why: string): void {
    const group = this.all.find((one) => one.id === id);
    if (!group) return;
    // Its jobs get their end; those that wait are for the others.
    const retired = group.retire();
    this.#release(group, retired);
    const groups = this.all.filter(isLive).length;
    this.#options.logger.info({ groupId: id, why, groups }, 'worker group stops');
  }

  #release(group: WorkerGroup, stopped: Promise<void>): void {
    const done = stopped.then(() => {
      this.#stopping.delete(done);
      const index = this.#members.findIndex((member) => member.group === group);
      const [member] = index < 0 ? [] : this.#members.splice(index, 1);
      if (!member) return;
      member.giveBack();
      this.#options.logger.info({ groupId: group.id }, 'worker group stopped');
      this.#options.onChange?.();
    });
    this.#stopping.add(done);
  }

  /** What a request is guilty of is not the model's: no client shall take it away. @returns whether the group is started again */
  #countDeath(error: ServingError, isLasting: boolean, ofRequests: number): boolean {
    const { retryThreshold } = this.#options.config;
    const nowMs = systemClock.nowMs();
    const all = [...this.#deathsMs.filter((at) => nowMs - at < DEATH_WINDOW_MS), nowMs];
    this.#deathsMs = all.slice(0, Math.max(0, all.length - ofRequests));
    const deaths = this.#deathsMs.length;
    if (deaths <= retryThreshold && !isLasting) return true;
    const minutes = DEATH_WINDOW_MS / 60_000;
    const why = isLasting
      ? error.message
      : `${deaths} deaths of worker groups in ${minutes} minutes, retry_threshold is ${retryThreshold}; the last: ${error.message}`;
    this.#fail(new ServingError(error.code, why, { cause: error }), isLasting);
    return false;
  }

  #groupChanged(): void {
    const running = this.running.length;
    if (running !== this.#runningGroups) {
      this.#runningGroups = running;
      this.#options.logger.info(
        { running, min: this.#minGroups, max: this.#maxGroups },
        'worker groups running',
      );
    }
    // What was left to a group that is gone is now for the others.
    this.#options.queue.wakeTakers();
    this.scale();
    this.#options.onChange?.();
  }

  #fail(error: ServingError, isLasting: boolean): void {
    if (this.#failure || this.#closed) return;
    this.#failure = error;
    const { id, logger, onChange, onFailed } = this.#options;
    logger.error({ code: error.code }, `model ${id} has failed: ${error.message}`);
    onFailed();
    onChange?.();
    for (const group of this.all) this.#release(group, group.retire());
    if (isLasting) this.#coolDown.stop();
    else this.#coolDown.failed();
  }

  /** One group of a pool that has failed. Never rejects. */
  #try(): Promise<void> {
    this.#trial ??= this.#tryGroup().finally(() => {
      this.#trial = null;
    });
    return this.#trial;
  }

  async #tryGroup(): Promise<void> {
    const { id, logger } = this.#options;
    // Those that failed: their memory is wanted.
    await Promise.all(this.#stopping);
    if (this.#closed) return;
    logger.info(`model ${id}, which has failed, is tried again`);
    let group: WorkerGroup | null = null;
    try {
      group = this.#addGroup('tried again');
      await group.start();
    } catch (error) {
      if (group) this.#release(group, group.stop());
      if (this.#closed) return;
      this.#failure = ServingError.from(error);
      logger.error({ code: this.#failure.code }, `model ${id} has failed again: ${this.#failure.message}`);
      this.#coolDown.failed();
      return;
    }
    this.#failure = null;
    this.#deathsMs = [];
    this.#coolDown.recovered();
    logger.info(`model ${id} serves again`);
    this.scale();
  }

  #tellOversubscribed(): void {
    if (this.#toldOversubscribed || !this.coresOversubscribed) return;
    this.#toldOversubscribed = true;
    const { worldSize } = this.#options;
    const { threadsPerRank } = this;
    const groups = { groups: this.all.filter(isLive).length, worldSize, threadsPerRank };
    const told = { ...groups, otherModelsThreads: this.#otherThreads, cores: usableCores() };
    this.#options.logger.warn(told, 'worker groups use more threads than there are cores');
  }
}
