/**
 * What every rank says of itself, asked for when somebody scrapes, and never more often or longer than it should.
 *
 * In      groups with an `inspect` (a question to the shard workers, answered after the steps that were sent before)
 * Out     the newest answer of each group, with a number for the group that a later group may take over
 * Limits  one question at a time a group; an answer serves FRESH_MS; a scrape waits WAIT_MS and then takes the last answer
 * Errors  none: a group that dies while it is asked has its last answer until it leaves the list
 */
import type { GroupReading, RankReading } from './model-metrics.js';

const FRESH_MS = 1000;
/** A rank in a long prefill is deaf for a step. */
const WAIT_MS = 250;

/** How a reader waits, so that a test needs no timer. */
export interface ReadingClock {
  nowMs(): number;
  /** Resolves after so long; must not keep the process alive. */
  after(ms: number): Promise<void>;
}

const systemReadingClock: ReadingClock = {
  nowMs: () => performance.now(),
  after: (ms) => new Promise((resolve) => setTimeout(resolve, ms).unref()),
};

interface Entry {
  /** Lowest that was free: labels stay few however often groups come and go. */
  number: number;
  ranks: readonly RankReading[];
  askedAtMs: number;
  pending: Promise<void> | null;
}

export interface GroupRanks {
  group: number;
  ranks: readonly RankReading[];
}

export class RankReadings {
  readonly #clock: ReadingClock;
  readonly #entries = new Map<object, Entry>();

  constructor(clock: ReadingClock = systemReadingClock) {
    this.#clock = clock;
  }

  /** Groups that do not run are left out; groups not in the list are forgotten. */
  async read(groups: readonly GroupReading[]): Promise<GroupRanks[]> {
    const running = groups.filter((group) => group.inspect !== null);
    const keys = new Set(running.map(({ key }) => key));
    for (const key of this.#entries.keys()) if (!keys.has(key)) this.#entries.delete(key);
    const entries = running.map((group) => this.#ask(group));
    const asked = entries.flatMap(({ pending }) => pending ?? []);
    if (asked.length > 0) await Promise.race([Promise.all(asked), this.#clock.after(WAIT_MS)]);
    return entries
      .filter(({ ranks }) => ranks.length > 0)
      .map(({ number, ranks }) => ({ group: number, ranks }));
  }

  #ask({ inspect, key }: GroupReading): Entry {
    const entry = this.#entries.get(key) ?? this.#newEntry(key);
    const nowMs = this.#clock.nowMs();
    if (entry.pending || nowMs - entry.askedAtMs < FRESH_MS || !inspect) return entry;
    entry.askedAtMs = nowMs;
    entry.pending = inspect()
      .then(
        (ranks) => {
          entry.ranks = ranks;
        },
        () => {},
      )
      .then(() => {
        entry.pending = null;
      });
    return entry;
  }

  #newEntry(key: object): Entry {
    const taken = new Set([...this.#entries.values()].map(({ number }) => number));
    let number = 0;
    while (taken.has(number)) number++;
    const entry: Entry = { number, ranks: [], askedAtMs: Number.NEGATIVE_INFINITY, pending: null };
    this.#entries.set(key, entry);
    return entry;
  }
}
