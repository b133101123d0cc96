/**
 * Ranks without processes: they keep to the protocol as fake-rank.ts has it, over links that delay and lose, and suffer what the seed says.
 *
 * In      messages of a coordinator; virtual time; a source of chance
 * Out     RankLauncher; what has happened, for the invariants
 * Limits  a step begins when every rank has it, as with collectives: one that hangs holds up all
 * Errors  a step that breaks the protocol is a violation
 */
import type { FromWorker, Inspection, LateMask, Step, ToWorker } from '../../proto/control.js';
import { CONTROL_VERSION } from '../../proto/limits.js';
import type { Killer } from '../../server/machine/memory-kills.js';
import type {
  GroupLaunch,
  RankEvents,
  RankGroup,
  RankHandle,
  RankLauncher,
} from '../../server/machine/ranks/rank-launcher.js';
import type { SeededRandom } from '../fixtures/seeded-random.js';
import { FakeRank, type FakeRankOptions } from '../support/fake-rank.js';
import type { VirtualTime } from './virtual-time.js';

/** Chances of one event each, 0 … 1. */
export interface FaultRates {
  /** A start of a rank that comes to nothing. */
  start: number;
  /** A message that is lost. */
  drop: number;
  /** A message that takes up to a second. */
  delay: number;
  /** Mean time between two faults of running ranks, ms; null: there are none. */
  everyMs: number | null;
  /** The share of kills that somebody outside does; the rest are the kernel's, for want of memory. */
  fromOutside: number;
  /** Running ranks are killed, and suffer nothing else. */
  killsAlone: boolean;
}

const START_FAULTS = ['spawn', 'exit', 'hang', 'failure'] as const;
const FAULTS = ['kill', 'hang', 'stop', 'failure', 'garbage'] as const;
/** Above what the kernel gives: /proc has nothing of them. */
const FIRST_PID = 5_000_000;
const ZEROS = {
  ...{ steps: 0, allReduces: 0, gathers: 0, collectiveBytesSent: 0, weightBytes: 0, kvReservedBytes: 0 },
  ...{ kvTouchedBytes: 0, openSlots: [], computeUs: 0, collectiveUs: 0, chooseUs: 0, collectiveSkewUs: 0 },
};

interface Group {
  ranks: SimulatedRank[];
  worldSize: number;
  fake: FakeRank;
  /** Ranks that have begun the step that comes next. */
  arrived: Set<SimulatedRank>;
  /** A step that has run but for masks which have not come. */
  held: Step | null;
  hasLost: boolean;
}

export class SimulatedRanks implements RankLauncher {
  readonly violations: string[] = [];
  faults = 0;
  /** Those of them that no request can be blamed for. */
  fromOutside = 0;
  steps = 0;
  readonly #time: VirtualTime;
  readonly #random: SeededRandom;
  readonly #rates: FaultRates;
  readonly #limits: FakeRankOptions;
  readonly #byPid = new Map<number, SimulatedRank>();
  readonly #killers = new Map<number, Killer>();
  /** Chances of its own, so that a seed means what it meant. */
  readonly #whose: SeededRandom;
  #nextPid = FIRST_PID;
  #hasLost = false;

  constructor(
    time: VirtualTime,
    random: SeededRandom,
    whose: SeededRandom,
    rates: FaultRates,
    limits: FakeRankOptions,
  ) {
    this.#time = time;
    this.#whose = whose;
    this.#random = random;
    this.#rates = rates;
    this.#limits = limits;
    this.#plan();
  }

  /** No fault happens from now on. */
  calm(): void {
    Object.assign(this.#rates, { start: 0, drop: 0, delay: 0, everyMs: null });
  }

  async newGroup(): Promise<RankGroup> {
    const fake = new FakeRank({ ...this.#limits, obeysMasks: true });
    const group: Group = {
      ranks: [],
      worldSize: 0,
      fake,
      arrived: new Set(),
      held: null,
      hasLost: false,
    };
    return {
      start: async (launch, events) => this.#start(group, launch, events),
      close: async () => {
        const left = group.ranks.filter(({ state }) => state !== 'dead');
        if (left.length > 0) this.violations.push(`a group is closed before ${left.length} of its ranks`);
        return null;
      },
    };
  }

  #start(group: Group, launch: GroupLaunch & { rank: number }, events: RankEvents): RankHandle {
    group.worldSize = launch.worldSize;
    const rank = new SimulatedRank(this, group, launch.rank, this.#nextPid++, events);
    group.ranks.push(rank);
    this.#byPid.set(rank.pid, rank);
    const fault = this.#random.next() < this.#rates.start ? this.#random.pick(START_FAULTS) : null;
    if (fault !== null) this.faults++;
    if (fault === 'spawn') rank.end('could not be started: spawn EAGAIN');
    else this.#load(rank, fault);
    return rank;
  }

  /** A process's, as proc(5) has it. */
  stateOf(pid: number): string | null {
    const state = this.#byPid.get(pid)?.state;
    return state === undefined || state === 'dead' ? null : state === 'stopped' ? 'T' : 'S';
  }

  /** As the kernel's counters tell it. */
  killerOf(pid: number): Killer {
    return this.#killers.get(pid) ?? { by: 'unknown' };
  }

  /** Every rank of the group with this process runs as it should; where a message was lost they wait until the step's deadline. */
  isHealthy(pids: readonly (number | undefined)[]): boolean {
    return pids.length > 0 && pids.every((pid) => this.#byPid.get(pid ?? 0)?.isHealthy === true);
  }

  get living(): number {
    return [...this.#byPid.values()].filter(({ state }) => state !== 'dead').length;
  }

  /** The time a message takes; null: it is lost. */
  delay(): number | null {
    if (this.#random.next() < this.#rates.drop) {
      this.faults++;
      this.#hasLost = true;
      return null;
    }
    const isLong = this.#random.next() < this.#rates.delay;
    return this.#random.next() * (isLong ? 1000 : 1);
  }

  /** By a coordinator: as it should where a message was lost. */
  refused(error: Error): void {
    if (!this.#hasLost) this.violations.push(`the coordinator refuses a message: ${error.message}`);
  }

  after(ms: number, action: () => void): void {
    this.#time.after(ms, action);
  }

  get nowMs(): number {
    return this.#time.nowMs;
  }

  /** All ranks have the step: it runs, and rank 0 tells. */
  arrive(group: Group, rank: SimulatedRank, step: Step): void {
    group.arrived.add(rank);
    if (group.arrived.size < group.worldSize) return;
    group.arrived.clear();
    this.after(this.#random.next() * 8, () => this.#run(group, step));
  }

  /** Those that rank 0 has count for all. */
  masksCame(group: Group, masks: readonly LateMask[]): void {
    const { held } = group;
    group.fake.tellMasks(masks);
    group.held = null;
    if (held) this.#run(group, held);
  }

  #run(group: Group, step: Step): void {
    // A rank that hangs or is gone holds up all.
    if (group.ranks.some(({ state }) => state !== 'ready')) return;
    if (group.fake.missingMasks(step) > 0) {
      group.held = step;
      return;
    }
    this.steps++;
    const [first] = group.ranks;
    try {
      const result = group.fake.run(step);
      first!.tell({ rank: 0, body: 'result', result });
    } catch (error) {
      this.violations.push(`a step breaks the protocol: ${(error as Error).message}`);
      first!.fail();
    }
    for (const one of group.ranks) one.stepDone();
  }

  #load(rank: SimulatedRank, fault: Exclude<(typeof START_FAULTS)[number], 'spawn'> | null): void {
    rank.tell({ rank: rank.rank, body: 'loading', loading: { doneBytes: 50, totalBytes: 100 } });
    this.after(50 + this.#random.next() * 500, () => {
      if (rank.state !== 'loading') return;
      if (fault === 'exit') rank.end('exited with code 3');
      else if (fault === 'failure') rank.fail();
      else if (fault === 'hang') rank.state = 'hung';
      else rank.ready();
    });
  }

  #plan(): void {
    const { everyMs } = this.#rates;
    if (everyMs === null) return;
    this.after(-Math.log(1 - this.#random.next()) * everyMs, () => {
      if (this.#rates.everyMs === null) return;
      const running = [...this.#byPid.values()].filter(({ state }) => state === 'ready');
      if (running.length > 0) {
        const [rank, fault] = [this.#random.pick(running), this.#random.pick(FAULTS)];
        this.#strike(rank, this.#rates.killsAlone ? 'kill' : fault);
      }
      this.#plan();
    });
  }

  #killer(): Killer {
    if (this.#whose.next() >= this.#rates.fromOutside)
      return { by: 'kernel', sentence: 'for want of memory, says the seed' };
    this.fromOutside++;
    return { by: 'somebody' };
  }

  #strike(rank: SimulatedRank, fault: (typeof FAULTS)[number]): void {
    this.faults++;
    switch (fault) {
      case 'kill':
        this.#killers.set(rank.pid, this.#killer());
        rank.end('was killed by SIGKILL');
        break;
      case 'hang':
        rank.state = 'hung';
        break;
      case 'stop':
        rank.state = 'stopped';
        break;
      case 'failure':
        rank.fail();
        break;
      case 'garbage':
        rank.babble();
        break;
    }
  }
}

class SimulatedRank implements RankHandle {
  state: 'loading' | 'ready' | 'hung' | 'stopped' | 'dead' = 'loading';
  readonly rank: number;
  readonly pid: number;
  readonly exited: Promise<string>;
  readonly #all: SimulatedRanks;
  readonly #group: Group;
  readonly #events: RankEvents;
  readonly #inbox: Exclude<ToWorker, { body: 'masks' }>[] = [];
  #end: (how: string) => void = () => {};
  #busy = false;
  #steps = 0;
  #closed = false;
  /** Messages keep their order. */
  #arrivesMs = 0;
  #leavesMs = 0;

  constructor(all: SimulatedRanks, group: Group, rank: number, pid: number, events: RankEvents) {
    this.#all = all;
    this.#group = group;
    this.rank = rank;
    this.pid = pid;
    this.#events = events;
    this.exited = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  get isHealthy(): boolean {
    return this.state === 'ready' && !this.#group.hasLost;
  }

  send(message: ToWorker): void {
    if (this.#closed || this.state === 'dead') return;
    const delayMs = this.#delay();
    if (delayMs === null) return;
    this.#arrivesMs = Math.max(this.#arrivesMs, this.#all.nowMs + delayMs);
    this.#all.after(this.#arrivesMs - this.#all.nowMs, () => {
      // They go past what waits.
      if (message.body === 'masks') {
        if (this.rank === 0 && this.state === 'ready') this.#all.masksCame(this.#group, message.masks.masks);
        return;
      }
      this.#inbox.push(message);
      this.#work();
    });
  }

  /** As of the system; the group has lost what never comes. */
  #delay(): number | null {
    const delayMs = this.#all.delay();
    if (delayMs === null) this.#group.hasLost = true;
    return delayMs;
  }

  kill(signal: 'SIGTERM' | 'SIGKILL'): void {
    const ends = signal === 'SIGKILL' || this.state === 'ready' || this.state === 'loading';
    if (ends) this.#all.after(1, () => this.end(`was killed by ${signal}`));
  }

  close(): void {
    this.#closed = true;
  }

  end(how: string): void {
    if (this.state === 'dead') return;
    this.state = 'dead';
    this.#end(how);
  }

  ready(): void {
    this.state = 'ready';
    this.tell({
      rank: this.rank,
      body: 'ready',
      ready: { pid: this.pid, version: CONTROL_VERSION, loadMs: 1, warmUpMs: 1 },
    });
    this.#work();
  }

  fail(): void {
    const failure = { code: 'WORKER_FAILED', message: 'planned by the seed', step: 0 };
    this.tell({ rank: this.rank, body: 'failure', failure });
  }

  babble(): void {
    if (!this.#closed) this.#events.onBroken(new Error('garbage'));
  }

  stepDone(): void {
    this.#busy = false;
    this.#work();
  }

  tell(message: FromWorker): void {
    const delayMs = this.#delay();
    if (delayMs === null) return;
    this.#leavesMs = Math.max(this.#leavesMs, this.#all.nowMs + delayMs);
    this.#all.after(this.#leavesMs - this.#all.nowMs, () => {
      if (this.#closed) return;
      try {
        this.#events.onMessage(message);
      } catch (error) {
        this.#all.refused(error as Error);
        this.#events.onBroken(error);
      }
    });
  }

  #work(): void {
    while (!this.#busy && this.state === 'ready') {
      const message = this.#inbox.shift();
      if (message === undefined) return;
      if (message.body === 'shutdown') this.end('exited with code 0');
      else if (message.body === 'inspect') {
        const inspection: Inspection = { ...ZEROS, id: message.inspect.id, pid: this.pid };
        this.tell({ rank: this.rank, body: 'inspection', inspection });
      } else if (message.step.step !== ++this.#steps) {
        // One before it was lost: a rank that is out of step says so and ends.
        this.fail();
        this.state = 'hung';
      } else {
        this.#busy = true;
        this.#all.arrive(this.#group, this, message.step);
      }
    }
  }
}
