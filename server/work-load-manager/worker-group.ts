/**
 * A worker group: one replica of a model. Starts it, and a new one when it has died.
 *
 * In      what to launch; the pool's queue
 * Out     jobs run; `onChange` after every change of `state`
 * Limits  the pool decides how many deaths are too many (onDeath); a pause before each new start (backOffMs), longer with each death in
 *         a row before anything was done: what has worked, or died of a request, is started again at once
 * Errors  start() rejects when the first start fails: nothing is tried again, since nothing has changed
 *
 * A failed replica has ended its started jobs; those that wait stay in the queue and are served by the next
 * start, or by another group.
 *
 * State: starting → running ⇄ restarting → failed; from any of them stopping (runs what it has begun) → stopped.
 */
import type { Logger } from 'pino';
import { type ErrorCode, ServingError } from '../../proto/errors.js';
import { NO_SAMPLE, type Replica } from '../engines/engine.js';
import type { Taker } from '../jobs/fair-share.js';
import type { GroupSample } from '../jobs/work-observer.js';

export type GroupState = 'starting' | 'running' | 'restarting' | 'failed' | 'stopping' | 'stopped';

export interface WorkerGroupOptions {
  /** Number of each rank's device, where it has one of its own. */
  devices?: readonly number[];
  /** Unique in the life of the pool, from 1. */
  id: number;
  /** A new life; told when it is idle and when not. */
  newReplica: (onIdle: (idle: boolean) => void) => Replica;
  logger: Logger;
  nowMs: () => number;
  /**
   * Called for each death; `isLasting`: another start cannot mend it; `ofRequests`: so many deaths, this one among them, were a request's
   * fault. false: the group has failed for good.
   */
  onDeath: (error: ServingError, isLasting: boolean, ofRequests: number) => boolean;
  onChange: () => void;
  /** Before each start that follows a death. */
  onRestart?: () => void;
}

/** Deaths further back are forgotten. */
export const DEATH_WINDOW_MS = 10 * 60 * 1000;
const BACK_OFF_MS = [0, 1000, 2000, 5000, 10_000];
const MAX_BACK_OFF_MS = 30_000;

/** Errors that another start cannot mend, of a group that never ran: where it has, its files were good and may be read again. */
const LASTING: readonly ErrorCode[] = ['SHARDS_INVALID', 'CHECKPOINT_INVALID', 'TENSOR_PARALLEL_INVALID'];

/** Pause before the start that follows the n-th death of those that came before anything was done; 0: there was none. */
export const backOffMs = (deaths: number): number =>
  deaths === 0 ? 0 : (BACK_OFF_MS[deaths - 1] ?? MAX_BACK_OFF_MS);

/** Resolves with the error that a replica died of, or null after it was drained. */
type LifeEnd = { error: Promise<ServingError | null> };

export class WorkerGroup {
  readonly id: number;
  readonly startedAtMs = Date.now();
  readonly #options: WorkerGroupOptions;
  readonly #stop = new AbortController();
  #state: GroupState = 'starting';
  /** While it runs, and while it ends. */
  #replica: Replica | null = null;
  #supervision: Promise<void> = Promise.resolve();
  #retiring = false;
  #hasRun = false;
  #stopped: Promise<void> | null = null;
  #idleSinceMs: number | null = null;
  #deathsMs: number[] = [];
  /** Deaths since a life that did anything. */
  #deathsInVain = 0;

  constructor(options: WorkerGroupOptions) {
    this.#options = options;
    this.id = options.id;
  }

  /** By rank; null: no devices of its own. */
  get devices(): readonly number[] | null {
    return this.#options.devices ?? null;
  }

  get state(): GroupState {
    return this.#state;
  }

  /** Its processes', by rank; none while it is not running. */
  get pids(): readonly (number | undefined)[] {
    return this.#replica?.pids ?? [];
  }

  /** It runs, and no process of it looks as if it hangs. */
  get isResponsive(): boolean {
    return this.#state === 'running' && this.#replica?.isResponsive !== false;
  }

  /** × its peers, where a rank holds them up; null: it does not. */
  slowerThanPeers(rank: number): number | null {
    return (this.#state === 'running' && this.#replica?.slowerThanPeers?.(rank)) || null;
  }

  /** For the metrics. */
  sample(): GroupSample {
    const state = this.#state;
    const sample = this.#replica?.sample() ?? NO_SAMPLE;
    return { key: this, state, ...sample, inspect: state === 'running' ? sample.inspect : null };
  }

  /** What it runs and has room for; null while it takes no jobs. */
  get load(): Taker | null {
    return this.#state === 'running' && this.#replica ? this.#replica.load : null;
  }

  /** Since when it runs without a job; null: it has one, or does not run. */
  get idleSinceMs(): number | null {
    return this.#state === 'running' ? this.#idleSinceMs : null;
  }

  /** Resolves when the group runs. @throws ServingError of the first start */
  async start(): Promise<void> {
    try {
      const ended = await this.#launch();
      this.#supervision = this.#supervise(ended);
    } catch (error) {
      this.#setState(this.#stop.signal.aborted ? 'stopped' : 'failed');
      throw error;
    }
  }

  /** Starts in the background; a start that fails counts as a death and is tried again. */
  begin(): void {
    this.#supervision = this.#supervise(null);
  }

  /** Takes no job any more, runs those it has to their end, then stops. Resolves when the workers are gone. */
  async retire(): Promise<void> {
    this.#retiring = true;
    const replica = this.#replica;
    this.#setState('stopping');
    if (replica) {
      replica.drain();
      await this.#supervision;
    }
    await this.stop();
  }

  /** Lets nothing run on; the caller has waited for the jobs or ends them here. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stopNow();
    return this.#stopped;
  }

  async #stopNow(): Promise<void> {
    this.#stop.abort();
    if (this.#state !== 'failed') this.#setState('stopping');
    await this.#replica?.stop();
    await this.#supervision;
    this.#replica = null;
    this.#setState('stopped');
  }

  async #launch(): Promise<LifeEnd> {
    const { newReplica, nowMs } = this.#options;
    const replica = newReplica((idle) => {
      this.#idleSinceMs = idle ? nowMs() : null;
      this.#options.onChange();
    });
    await replica.start(this.#stop.signal);
    this.#replica = replica;
    this.#hasRun = true;
    this.#idleSinceMs = nowMs();
    if (this.#retiring) replica.drain();
    else this.#setState('running');
    const error = replica.run().then(
      () => null,
      (reason: unknown) => ServingError.from(reason),
    );
    return { error };
  }

  /** @param first null: nothing runs yet */
  async #supervise(first: LifeEnd | null): Promise<void> {
    let life: LifeEnd | null = first;
    let isFirst = first === null;
    while (!this.#stop.signal.aborted) {
      if (life) {
        const error = await life.error;
        if (error === null) return;
        await this.#bury(error);
      }
      if (this.#state === 'failed' || this.#retiring) return;
      if (!isFirst) await pause(backOffMs(this.#deathsInVain), this.#stop.signal);
      if (this.#stop.signal.aborted) return;
      if (!isFirst) this.#options.onRestart?.();
      isFirst = false;
      life = await this.#launch().catch((error: unknown) => {
        this.#countDeath(ServingError.from(error));
        return null;
      });
    }
  }

  async #bury(error: ServingError): Promise<void> {
    // Before anything is awaited: nobody shall leave a job to a dead group.
    const { deathsOfRequests = 0, hasWorked = false } = this.#replica ?? {};
    if (hasWorked || deathsOfRequests > 0) this.#deathsInVain = -1;
    this.#countDeath(error, deathsOfRequests);
    await this.#replica?.stop();
    this.#replica = null;
  }

  #countDeath(error: ServingError, ofRequests = 0): void {
    const { logger, nowMs, onDeath } = this.#options;
    if (this.#stop.signal.aborted || this.#retiring) return;
    const now = nowMs();
    this.#deathsMs = [...this.#deathsMs.filter((at) => now - at < DEATH_WINDOW_MS), now];
    this.#deathsInVain++;
    const goesOn = onDeath(error, !this.#hasRun && LASTING.includes(error.code), ofRequests);
    logger.error(
      { err: error, code: error.code, deaths: this.#deathsMs.length },
      goesOn ? 'worker group died' : 'worker group failed',
    );
    this.#setState(goesOn ? 'restarting' : 'failed');
  }

  #setState(state: GroupState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#options.onChange();
  }
}

/** Cut short by the signal. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms === 0 || signal.aborted) return;
  await new Promise<void>((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener('abort', end);
  });
}
