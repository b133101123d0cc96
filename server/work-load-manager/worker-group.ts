/**
 * A worker group: one replica of a model. Starts its coordinator and batch loop, and starts both again when they have failed.
 *
 * In      what to launch; the pool's queue
 * Out     jobs run; `onChange` after every change of `state`
 * Limits  more than `retryThreshold` deaths in DEATH_WINDOW_MS: FAILED for good; a pause before each new start (backOffMs)
 * Errors  start() rejects when the first start fails: nothing is tried again, since nothing has changed
 *
 * A failed group has ended its started jobs (batch-loop.ts); those that wait stay in the queue and are served by the next start.
 */
import type { Logger } from 'pino';
import { type ErrorCode, ServingError } from '../../proto/errors.js';
import { BatchLoop, type BatchLoopOptions } from '../batching/batch-loop.js';
import { Coordinator, type CoordinatorOptions } from '../coordinator/coordinator.js';
import type { GroupSample } from '../jobs/work-observer.js';

export type GroupState = 'starting' | 'running' | 'restarting' | 'failed' | 'stopped';

/** Everything a loop needs but the group it steps; made anew for each start, since slots die with their workers. */
export type LoopParts = Omit<BatchLoopOptions, 'group'>;

export interface WorkerGroupOptions {
  coordinator: CoordinatorOptions;
  makeLoopParts: () => LoopParts;
  retryThreshold: number;
  logger: Logger;
  onChange: () => void;
  /** Before each start that follows a death. */
  onRestart?: () => void;
}

/** Deaths further back are forgotten. */
const DEATH_WINDOW_MS = 10 * 60 * 1000;
const BACK_OFF_MS = [0, 1000, 2000, 5000, 10_000];
const MAX_BACK_OFF_MS = 30_000;

/** Errors that another start cannot mend. */
const LASTING: readonly ErrorCode[] = ['SHARDS_INVALID', 'CHECKPOINT_INVALID', 'TENSOR_PARALLEL_INVALID'];

/** Pause before the start that follows the n-th death in the window, n = 1, 2, … */
export const backOffMs = (deaths: number): number => BACK_OFF_MS[deaths - 1] ?? MAX_BACK_OFF_MS;

export class WorkerGroup {
  readonly #options: WorkerGroupOptions;
  readonly #stop = new AbortController();
  #state: GroupState = 'starting';
  #coordinator: Coordinator | null = null;
  #loop: BatchLoop | null = null;
  #supervision: Promise<void> = Promise.resolve();
  #deathsMs: number[] = [];

  constructor(options: WorkerGroupOptions) {
    this.#options = options;
  }

  get state(): GroupState {
    return this.#state;
  }

  /** Null while it is not running. */
  get coordinator(): Coordinator | null {
    return this.#coordinator;
  }

  /** For the metrics. */
  sample(): GroupSample {
    const slots = this.#loop?.slots;
    const coordinator = this.#state === 'running' ? this.#coordinator : null;
    return {
      key: this,
      state: this.#state,
      sequencesRunning: this.#loop?.runningCount ?? 0,
      slots: slots?.maxSlots ?? 0,
      kvTokensUsed: slots ? slots.kvTokens - slots.freeKvTokens : 0,
      kvTokensCapacity: slots?.kvTokens ?? 0,
      inspect: coordinator && (() => coordinator.inspect()),
    };
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

  /** Lets nothing run on; the caller has waited for the jobs or ends them here. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#loop?.stop();
    // The workers finish the steps that were sent before they end; a hung one is killed.
    await this.#coordinator?.stop();
    await this.#supervision;
    this.#coordinator = null;
    this.#setState('stopped');
  }

  /** Starts workers and loop. The result resolves with the error that ended the loop, or null after stop. */
  async #launch(): Promise<{ error: Promise<ServingError | null> }> {
    const { coordinator: options, makeLoopParts } = this.#options;
    const coordinator = await Coordinator.start(options, this.#stop.signal);
    const loop = new BatchLoop({ ...makeLoopParts(), group: coordinator });
    this.#coordinator = coordinator;
    this.#loop = loop;
    this.#setState('running');
    const error = loop.run().then(
      () => null,
      (reason: unknown) => ServingError.from(reason),
    );
    return { error };
  }

  async #supervise(first: { error: Promise<ServingError | null> }): Promise<void> {
    let life: { error: Promise<ServingError | null> } | null = first;
    while (!this.#stop.signal.aborted) {
      if (life) {
        const error = await life.error;
        if (error === null) return;
        await this.#bury(error);
      }
      if (this.#state === 'failed') return;
      await pause(backOffMs(this.#deathsMs.length), this.#stop.signal);
      if (this.#stop.signal.aborted) return;
      this.#options.onRestart?.();
      life = await this.#launch().catch((error: unknown) => {
        this.#countDeath(ServingError.from(error));
        return null;
      });
    }
  }

  async #bury(error: ServingError): Promise<void> {
    await this.#coordinator?.stop();
    this.#coordinator = null;
    this.#loop = null;
    this.#countDeath(error);
  }

  #countDeath(error: ServingError): void {
    const { logger, retryThreshold } = this.#options;
    if (this.#stop.signal.aborted) return;
    const nowMs = performance.now();
    this.#deathsMs = [...this.#deathsMs.filter((at) => nowMs - at < DEATH_WINDOW_MS), nowMs];
    const deaths = this.#deathsMs.length;
    const isLast = deaths > retryThreshold || LASTING.includes(error.code);
    logger.error(
      { err: error, code: error.code, deaths, retryThreshold },
      isLast ? 'worker group failed' : 'worker group died',
    );
    this.#setState(isLast ? 'failed' : 'restarting');
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
