/**
 * Models share the cores: one that cannot keep up with its requests yields them to those that can.
 *
 * In      every TICK_MS, of each model: jobs that no group has room for, whether something runs, its workers
 * Out     the priority of the workers: LOWEST_PRIORITY while the model yields, the server's own otherwise
 * Limits  a change of mind takes SETTLE_MS, so that a burst is no change. With fewer than two models nothing is watched
 * Errors  none
 *
 * A model that keeps up leaves time by definition; what it leaves goes to the saturated ones, who share it as equals. So a
 * request of the first waits about as long as with the machine to itself, and the others lose little (README, "Who yields").
 * A saturated model that runs beside an idle one does not yield: it is not made to wait for programs that are none of ours.
 */
import type { Logger } from 'pino';
import { LOWEST_PRIORITY } from './process-priority.js';

const TICK_MS = 50;
const SETTLE_MS = 250;

/** A model, as the cores see it. */
export interface CoreUser {
  readonly id: string;
  /** Jobs that no group has room for. */
  readonly backlog: number;
  /** Sequences that run. */
  readonly running: number;
  /** Its workers'. */
  readonly pids: readonly number[];
}

export interface CoreYieldOptions {
  /** Those that there are now. */
  users: () => readonly CoreUser[];
  /** The priority of a worker that does not yield. */
  ownPriority: number;
  /** Whether a lowered priority can be raised again; without that none is lowered. */
  canRaise: boolean;
  setPriority: (pid: number, nice: number) => void;
  logger: Pick<Logger, 'debug' | 'info'>;
}

interface Habits {
  /** It could not keep up, when it was last settled. */
  saturated: boolean;
  /** Last seen as `saturated` says. */
  agreedAtMs: number;
  lastRanMs: number;
}

export class CoreYield {
  readonly #options: CoreYieldOptions;
  readonly #habits = new Map<string, Habits>();
  /** Workers whose priority is lowered. */
  #lowered = new Set<number>();
  #yielding = new Set<string>();
  #timer: NodeJS.Timeout | null = null;
  #toldPowerless = false;

  constructor(options: CoreYieldOptions) {
    this.#options = options;
  }

  /** From now until there is one model left, or none. */
  watch(): void {
    if (this.#timer || this.#options.users().length < 2) return;
    this.#timer = setInterval(() => this.tick(performance.now()), TICK_MS).unref();
  }

  /** Looks at every model once. */
  tick(nowMs: number): void {
    const users = this.#options.users();
    if (users.length < 2) this.#rest();
    const rows = users.map((user) => ({ user, habits: this.#observe(user, nowMs) }));
    const isServed = rows.some(
      ({ habits: { lastRanMs, saturated } }) => !saturated && nowMs - lastRanMs <= SETTLE_MS,
    );
    const yielding = isServed ? rows.filter(({ habits }) => habits.saturated) : [];
    this.#lower(new Set(yielding.flatMap(({ user }) => user.pids)));
    this.#tell(new Set(yielding.map(({ user }) => user.id)));
    for (const id of this.#habits.keys()) {
      if (!users.some((user) => user.id === id)) this.#habits.delete(id);
    }
  }

  #rest(): void {
    if (this.#timer) clearInterval(this.#timer);
    this.#timer = null;
  }

  #observe({ backlog, id, running }: CoreUser, nowMs: number): Habits {
    const isOver = backlog > 0;
    let habits = this.#habits.get(id);
    if (!habits) {
      habits = { saturated: false, agreedAtMs: nowMs, lastRanMs: Number.NEGATIVE_INFINITY };
      this.#habits.set(id, habits);
    }
    if (running > 0) habits.lastRanMs = nowMs;
    if (isOver !== habits.saturated && nowMs - habits.agreedAtMs >= SETTLE_MS) habits.saturated = isOver;
    if (isOver === habits.saturated) habits.agreedAtMs = nowMs;
    return habits;
  }

  #tell(yielding: Set<string>): void {
    const { canRaise, logger } = this.#options;
    if (!canRaise) {
      if (yielding.size > 0 && !this.#toldPowerless) {
        this.#toldPowerless = true;
        logger.info(
          { models: [...yielding] },
          'a saturated model cannot yield the cores to another: that needs RLIMIT_NICE 20 (docker run --ulimit nice=20) or CAP_SYS_NICE',
        );
      }
      return;
    }
    for (const model of yielding)
      if (!this.#yielding.has(model)) logger.debug({ model }, 'model yields the cores');
    for (const model of this.#yielding)
      if (!yielding.has(model)) logger.debug({ model }, 'model yields no more');
    this.#yielding = yielding;
  }

  #lower(wanted: Set<number>): void {
    const { canRaise, ownPriority, setPriority } = this.#options;
    if (!canRaise) return;
    for (const pid of this.#lowered) if (!wanted.has(pid)) setPriority(pid, ownPriority);
    for (const pid of wanted) if (!this.#lowered.has(pid)) setPriority(pid, LOWEST_PRIORITY);
    this.#lowered = wanted;
  }
}
