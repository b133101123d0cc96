/**
 * Which rank of a group holds the others up, by what they say of themselves.
 *
 * In      inspections of all ranks, now and then: times added up since the group began
 * Out     by rank, how many times as long as its peers it was busy since the last look; 1: alike, or nothing ran
 * Limits  nothing is said of less than MIN_BUSY_US of steps; one that was slow is so until it is below CLEAR
 * Errors  none
 * Pure
 *
 * All ranks take part in every step, so it lasts as long for each: what a rank does not spend waiting for others it is busy, whether it
 * computes, or wants a core, or its clock is throttled. So the slow one is who waits least.
 */
import type { Inspection } from '../../proto/control.js';

/** Ranks of one machine differ by less, also where they share cores. */
const SLOW = 3;
const CLEAR = 2;
const MIN_BUSY_US = 200_000;

type Times = Pick<Inspection, 'computeUs' | 'collectiveUs' | 'chooseUs'>;

export class SlowRanks {
  #last: readonly Times[] | null = null;
  #slowness: readonly number[] = [];
  readonly #slow = new Set<number>();

  /** By rank. */
  get slowness(): readonly number[] {
    return this.#slowness;
  }

  /** @returns ranks that are slow now and were not, and that were and are not any more */
  look(ranks: readonly Times[]): { slower: number[]; recovered: number[] } {
    const before = this.#last;
    this.#last = ranks;
    const none = { slower: [], recovered: [] };
    if (before === null || before.length !== ranks.length || ranks.length < 2) return none;
    const spent = ranks.map(({ chooseUs, collectiveUs, computeUs }, rank) => {
      const then = before[rank]!;
      const waitedUs = collectiveUs - then.collectiveUs;
      return { waitedUs, allUs: waitedUs + computeUs - then.computeUs + chooseUs - then.chooseUs };
    });
    const lastedUs = Math.max(...spent.map(({ allUs }) => allUs));
    if (lastedUs < MIN_BUSY_US) return none;
    const busyUs = spent.map(({ waitedUs }) => Math.max(1, lastedUs - waitedUs));
    this.#slowness = busyUs.map((us, rank) => us / median(busyUs.filter((_, peer) => peer !== rank)));
    const slower: number[] = [];
    const recovered: number[] = [];
    for (const [rank, times] of this.#slowness.entries()) {
      if (times >= SLOW && !this.#slow.has(rank)) {
        this.#slow.add(rank);
        slower.push(rank);
      } else if (times < CLEAR && this.#slow.delete(rank)) recovered.push(rank);
    }
    return { slower, recovered };
  }

  /** × its peers, where that is slow; null: it is not. */
  slowerThanPeers(rank: number): number | null {
    return this.#slow.has(rank) ? (this.#slowness[rank] ?? null) : null;
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2;
}
