/**
 * Where the ranks of one host see how far the others are: words in shared memory, each rank writing its own.
 *
 * In      ticks: every rank counts the phases of its operations, and says at each what it is about to do (an entry)
 * Out     a wait ends when the awaited ranks are at the tick with the same entry
 * Layout  a header page, then 1 KiB a rank: words that are written apart lie in cache lines apart; the last ENTRIES entries.
 *         A rank is at most two ticks ahead of one that still has to read its entry: only a gather (of ranks but 0) and a
 *         broadcast (of rank 0) end without the others, and the next of each waits until the mailbox is free again
 * Waits   spin for `spinUs` an operation at most, then sleep on one word of the group, the bell. Whoever arrives last rings,
 *         and only if somebody sleeps. A sleeper counts itself before it looks at the condition for the last time, a ringer
 *         looks at the count after it made the condition true: in the one order that atomics have, one of them sees the other.
 *         Where spinning was in vain lately (two ranks were put on one core, a rank is much slower), it is tried seldom: a
 *         spinning rank keeps the other from the core that both need. A sleeper wakes by itself every 50 ms, for peers that died and the deadline
 * Limits  MAX_WORLD_SIZE ranks; ticks wrap around at 2^32, and are compared by their difference
 * Errors  CollectiveError TIMEOUT, PEER_LOST, OUT_OF_STEP, CLOSED
 */
import { performance } from 'node:perf_hooks';
import { MAX_WORLD_SIZE } from '../../proto/limits.js';
import { futexWait, futexWake } from '../native/futex.js';
import { PAGE_BYTES, wholePages } from '../native/libc.js';
import type { SharedMapping } from '../native/shared-mapping.js';
import { CollectiveError } from './collective.js';

const RANK_BYTES = 1024;
/** Whole pages of the largest kind, on which a mapping can start. */
export const BOARD_BYTES = PAGE_BYTES + wholePages(MAX_WORLD_SIZE * RANK_BYTES);

/** What a rank is doing at a tick. */
export const Phase = { ALL_REDUCE: 1, SCATTERED: 2, GATHER: 3, BROADCAST: 4 } as const;
export type Phase = (typeof Phase)[keyof typeof Phase];
const PHASE_NAMES = ['nothing', 'all-reduce', 'second half of all-reduce', 'gather', 'broadcast'];

/** A rank's. Any thread may set CLOSED to end a wait of its rank. */
export const RankState = { ABSENT: 0, RUNNING: 1, FAILED: 2, CLOSED: 3 } as const;

const LINE = 16; // words
/** Word positions in the header page. */
const Header = {
  MAGIC: 0,
  VERSION: 1,
  WORLD: 2,
  NONCE: 3,
  BELL: LINE,
  /** Ranks that sleep until another has arrived, or has taken what it was given. */
  SLEEPERS: 2 * LINE,
  TAKEN_SLEEPERS: 3 * LINE,
} as const;
/** Word positions of a rank. */
const Own = { ARRIVED: 0, TAKEN: LINE, STATE: 2 * LINE, PID: 2 * LINE + 1, ENTRIES: 4 * LINE } as const;
/** Word positions of an entry. */
const Entry = { TICK: 0, PHASE: 1, STEP: 2, OP: 3, BYTES: 4, PARTIAL: 5, SUM: 6, TIME: 7 } as const;
const ENTRIES = 4;

const MAGIC = 0x5348_4d42; // 'BMHS' in memory
const VERSION = 1;
const SLEEP_MS = 50;
const LOOKS_A_CLOCK = 32;
/** Vain spins in a row after which a rank sleeps at once, and how often it tries again then. */
const MAX_SPIN_CREDIT = 4;
const WAITS_A_PROBE = 16;

export interface BoardOptions {
  memory: SharedMapping;
  rank: number;
  worldSize: number;
  timeoutMs: number;
  spinUs: number;
}

export class Board {
  /** Changes at every phase of every operation; the same on all ranks in the same phase. */
  tick = 0;
  /** Time that this rank waited for others to arrive at what all of them do, µs in all. */
  skewUs = 0;
  readonly #words: Int32Array;
  readonly #bellAddress: number;
  readonly #rank: number;
  readonly #worldSize: number;
  readonly #timeoutMs: number;
  readonly #spinMs: number;
  /** When the operation under way stops spinning, from its first wait on; 0: it has not waited yet. */
  #spinUntilMs = 0;
  #deadlineMs = 0;
  #spinCredit = MAX_SPIN_CREDIT;
  #waitsUnspun = 0;
  /** Where the entry begins that this rank is at. */
  #entryAt = 0;

  constructor({ memory, rank, worldSize, timeoutMs, spinUs }: BoardOptions) {
    this.#words = new Int32Array(memory.buffer, 0, BOARD_BYTES / Int32Array.BYTES_PER_ELEMENT);
    this.#bellAddress = memory.address + Header.BELL * Int32Array.BYTES_PER_ELEMENT;
    this.#rank = rank;
    this.#worldSize = worldSize;
    this.#timeoutMs = timeoutMs;
    this.#spinMs = spinUs / 1000;
  }

  /** Rank 0 only, before the others see the memory. */
  found(nonce: number): void {
    this.#words.set([MAGIC, VERSION, this.#worldSize, nonce | 0]);
  }

  /** Whether this is the memory that rank 0 made for this group. */
  isOf(nonce: number): boolean {
    const [magic, version, world, found] = this.#words;
    return magic === MAGIC && version === VERSION && world === this.#worldSize && found === (nonce | 0);
  }

  join(): void {
    this.#words[at(this.#rank, Own.PID)] = process.pid;
    this.setState(RankState.RUNNING);
  }

  /** One word: this rank's RankState. */
  get stateWord(): Int32Array {
    const index = at(this.#rank, Own.STATE);
    return this.#words.subarray(index, index + 1);
  }

  setState(state: number): void {
    Atomics.store(this.#words, at(this.#rank, Own.STATE), state);
    this.#ring();
  }

  /** This rank is at the next tick, about to do this; all it wrote before is visible to whoever sees it there. */
  arrive(phase: Phase, step: number, op: number, bytes: number, partial: number, sum: number): void {
    const words = this.#words;
    const tick = (this.tick + 1) | 0;
    const entry = entryAt(this.#rank, tick);
    words[entry + Entry.TICK] = tick;
    words[entry + Entry.PHASE] = phase;
    words[entry + Entry.STEP] = step;
    words[entry + Entry.OP] = op;
    words[entry + Entry.BYTES] = bytes;
    words[entry + Entry.PARTIAL] = partial;
    words[entry + Entry.SUM] = sum;
    words[entry + Entry.TIME] = monotonicUs();
    this.tick = tick;
    this.#entryAt = entry;
    this.#spinUntilMs = 0;
    this.#deadlineMs = 0;
    Atomics.store(words, at(this.#rank, Own.ARRIVED), tick);
    if (Atomics.load(words, Header.SLEEPERS) > 0 && this.#isAwaited(phase)) this.#ring();
  }

  /** Every other rank is at this tick too, with the same entry. */
  awaitAll(): void {
    for (let peer = 0; peer < this.#worldSize; peer++) {
      if (peer !== this.#rank) this.awaitRank(peer);
    }
    let lateUs = 0;
    for (let peer = 0; peer < this.#worldSize; peer++) {
      const arrivedUs = this.#words[entryAt(peer, this.tick) + Entry.TIME]!;
      lateUs = Math.max(lateUs, (arrivedUs - this.#words[this.#entryAt + Entry.TIME]!) | 0);
    }
    this.skewUs += lateUs;
  }

  /** Every peer is there still; one that died is told before one that failed, maybe since that died. @throws CollectiveError PEER_LOST */
  checkPeers(): void {
    const peers = Array.from({ length: this.#worldSize }, (_, peer) => peer).filter(
      (peer) => peer !== this.#rank,
    );
    const isRunning = (peer: number): boolean =>
      Atomics.load(this.#words, at(peer, Own.STATE)) === RankState.RUNNING;
    const lost =
      peers.find((peer) => !isAlive(this.#words[at(peer, Own.PID)]!)) ??
      peers.find((peer) => !isRunning(peer));
    if (lost !== undefined) throw gone(this.#rank, lost);
  }

  awaitRank(peer: number): void {
    this.#await(Own.ARRIVED, peer, this.tick);
    const words = this.#words;
    const entry = entryAt(peer, this.tick);
    for (let word = 0; word <= Entry.SUM; word++) {
      // Every rank has its own number of bytes to give in a gather, and only rank 0 knows them in a broadcast.
      if (word === Entry.BYTES && words[this.#entryAt + Entry.PHASE]! >= Phase.GATHER) continue;
      if (words[entry + word] !== words[this.#entryAt + word]) throw this.#outOfStep(peer, entry);
    }
  }

  /** The bytes that a peer named at this tick. */
  bytesOf(peer: number): number {
    return this.#words[entryAt(peer, this.tick) + Entry.BYTES]!;
  }

  /** This rank has read what it was given at this tick. */
  take(): void {
    Atomics.store(this.#words, at(this.#rank, Own.TAKEN), this.tick);
    if (Atomics.load(this.#words, Header.TAKEN_SLEEPERS) > 0) this.#ring();
  }

  /** The peer has read what it was given at `tick`. */
  awaitTaken(peer: number, tick: number): void {
    this.#deadlineMs = 0;
    this.#await(Own.TAKEN, peer, tick);
  }

  #await(word: number, peer: number, tick: number): void {
    const words = this.#words;
    const index = at(peer, word);
    if (((Atomics.load(words, index) - tick) | 0) >= 0) return;
    if (this.#spinMs > 0 && this.#spin(index, tick)) return;
    this.#sleep(index, word, peer, tick);
  }

  /** Look again and again for a while, where that has paid lately. */
  #spin(index: number, tick: number): boolean {
    if (this.#spinCredit === 0 && ++this.#waitsUnspun % WAITS_A_PROBE !== 0) return false;
    const words = this.#words;
    let nowMs = performance.now();
    if (this.#spinUntilMs === 0) this.#spinUntilMs = nowMs + this.#spinMs;
    while (nowMs < this.#spinUntilMs) {
      for (let look = 0; look < LOOKS_A_CLOCK; look++) {
        if (((Atomics.load(words, index) - tick) | 0) < 0) continue;
        if (this.#spinCredit < MAX_SPIN_CREDIT) this.#spinCredit++;
        return true;
      }
      nowMs = performance.now();
    }
    if (this.#spinCredit > 0) this.#spinCredit--;
    return false;
  }

  #sleep(index: number, word: number, peer: number, tick: number): void {
    const words = this.#words;
    const sleepers = word === Own.ARRIVED ? Header.SLEEPERS : Header.TAKEN_SLEEPERS;
    if (this.#deadlineMs === 0) this.#deadlineMs = performance.now() + this.#timeoutMs;
    let isPeerAlive = true;
    for (;;) {
      Atomics.add(words, sleepers, 1);
      try {
        const bell = Atomics.load(words, Header.BELL);
        // Whether the peer is still there is looked at before whether it has arrived: what it left done counts.
        const isPeerThere = isPeerAlive && Atomics.load(words, at(peer, Own.STATE)) === RankState.RUNNING;
        if (((Atomics.load(words, index) - tick) | 0) >= 0) return;
        if (Atomics.load(words, at(this.#rank, Own.STATE)) === RankState.CLOSED) throw closed(this.#rank);
        if (!isPeerThere) throw gone(this.#rank, peer);
        const leftMs = this.#deadlineMs - performance.now();
        if (leftMs <= 0) throw this.#timedOut(word, tick);
        const isRung = futexWait(this.#bellAddress, bell, Math.min(SLEEP_MS, leftMs));
        if (!isRung) isPeerAlive = isAlive(words[at(peer, Own.PID)]!);
      } finally {
        Atomics.sub(words, sleepers, 1);
      }
    }
  }

  /** Whether somebody may have waited for just this arrival. */
  #isAwaited(phase: Phase): boolean {
    if (phase === Phase.BROADCAST) return this.#rank === 0;
    for (let peer = 0; peer < this.#worldSize; peer++) {
      if (((Atomics.load(this.#words, at(peer, Own.ARRIVED)) - this.tick) | 0) < 0) return false;
    }
    return true;
  }

  #ring(): void {
    Atomics.add(this.#words, Header.BELL, 1);
    futexWake(this.#bellAddress);
  }

  #timedOut(word: number, tick: number): CollectiveError {
    const late: number[] = [];
    for (let peer = 0; peer < this.#worldSize; peer++) {
      if (peer !== this.#rank && ((Atomics.load(this.#words, at(peer, word)) - tick) | 0) < 0)
        late.push(peer);
    }
    return new CollectiveError(
      'TIMEOUT',
      late[0] ?? null,
      `rank ${this.#rank}: nothing from rank ${late.join(', ')} for ${this.#timeoutMs} ms ` +
        `(${this.#describe(this.#entryAt)})`,
    );
  }

  #outOfStep(peer: number, entry: number): CollectiveError {
    return new CollectiveError(
      'OUT_OF_STEP',
      peer,
      `rank ${this.#rank} is at ${this.#describe(this.#entryAt)}; rank ${peer} is at ${this.#describe(entry)}`,
    );
  }

  #describe(entry: number): string {
    const word = (position: number): number => this.#words[entry + position]!;
    return (
      `${PHASE_NAMES[word(Entry.PHASE)] ?? PHASE_NAMES[0]} of step ${word(Entry.STEP) >>> 0}, op ${word(Entry.OP) >>> 0}, ` +
      `${word(Entry.BYTES)} bytes, memory ${word(Entry.PARTIAL)} and ${word(Entry.SUM)}, tick ${word(Entry.TICK)}`
    );
  }
}

/** CLOCK_MONOTONIC, the same on all processes of a host, in a word that wraps around. */
const monotonicUs = (): number => Number(process.hrtime.bigint() / 1000n) | 0;

const at = (rank: number, word: number): number => (PAGE_BYTES + rank * RANK_BYTES) / 4 + word;

const entryAt = (rank: number, tick: number): number => at(rank, Own.ENTRIES + (tick & (ENTRIES - 1)) * LINE);

const gone = (rank: number, peer: number): CollectiveError =>
  new CollectiveError('PEER_LOST', peer, `rank ${rank}: rank ${peer} is gone`);

export const closed = (rank: number): CollectiveError =>
  new CollectiveError('CLOSED', null, `rank ${rank}: the collective is closed`);

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
