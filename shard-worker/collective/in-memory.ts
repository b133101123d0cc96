/**
 * The collective of n ranks inside one process: the readable definition of correct, for tests.
 *
 * The k-th operation of every rank meets in the k-th meeting. The last rank to arrive does the work for all; earlier ones
 * hold a promise. So n ranks can be run in lockstep (call every rank's operation, then await them all) or as n concurrent
 * async functions. As over a network, only receivers wait: a rank other than 0 leaves a gather at once, rank 0 a broadcast.
 *
 * Limits  a rank waits `timeoutMs`, or for ever where none is given (unit tests use no timer)
 * Errors  CollectiveError; after one, all later operations of that rank fail with it
 */
import assert from 'node:assert/strict';
import { allocateAligned } from './aligned-memory.js';
import {
  type Collective,
  type CollectiveCounters,
  CollectiveError,
  type CollectiveTag,
} from './collective.js';
import { sumAsTree } from './tree-sum.js';

type Operation = 'all-reduce' | 'gather' | 'broadcast';

interface Arrival {
  operation: Operation;
  tag: CollectiveTag;
  /** All-reduce: both are the rank's own memory, untouched by it until the meeting is over. */
  partial: Float32Array | null;
  sum: Float32Array | null;
  floats: number;
  /** Gather and broadcast: a copy, so that the caller may reuse its memory. */
  bytes: Uint8Array | null;
  resolve: (() => void) | null;
  reject: ((error: CollectiveError) => void) | null;
}

interface Meeting {
  arrivals: (Arrival | null)[];
  arrived: number;
}

export interface InMemoryOptions {
  /** How long a rank waits for the others; absent: for ever. */
  timeoutMs?: number;
}

/** One collective a rank, joined with each other. */
export function createInMemoryCollectives(worldSize: number, options: InMemoryOptions = {}): Collective[] {
  const group = new Group(worldSize, options.timeoutMs ?? null);
  return group.members;
}

class Group {
  readonly members: InMemoryCollective[];
  readonly #meetings = new Map<number, Meeting>();
  readonly timeoutMs: number | null;

  constructor(worldSize: number, timeoutMs: number | null) {
    this.timeoutMs = timeoutMs;
    this.members = Array.from(
      { length: worldSize },
      (_, rank) => new InMemoryCollective(this, rank, worldSize),
    );
  }

  meeting(index: number): Meeting {
    let meeting = this.#meetings.get(index);
    if (meeting === undefined) {
      meeting = { arrivals: this.members.map(() => null), arrived: 0 };
      this.#meetings.set(index, meeting);
    }
    return meeting;
  }

  /** Called after each arrival: refuses one that differs from those before it, ends the meeting with the last. */
  arrive(index: number, rank: number, arrival: Arrival): void {
    const meeting = this.meeting(index);
    const other = meeting.arrivals.findIndex(
      (earlier) => earlier !== null && !sameOperation(earlier, arrival),
    );
    if (other >= 0) {
      const text = `rank ${rank} is at ${describe(arrival)}, rank ${other} at ${describe(meeting.arrivals[other]!)}`;
      for (const member of this.members) {
        member.fail(new CollectiveError('OUT_OF_STEP', member.rank === rank ? other : rank, text));
      }
      return;
    }
    meeting.arrivals[rank] = arrival;
    meeting.arrived += 1;
    if (meeting.arrived < this.members.length) {
      // Whoever is gone will not come any more.
      const gone = this.members.find((member) => member.closed && meeting.arrivals[member.rank] === null);
      if (gone !== undefined) this.members[rank]!.fail(peerLost(gone.rank));
      return;
    }
    if (arrival.operation === 'all-reduce') {
      const partials = meeting.arrivals.map((one) => one!.partial!);
      for (const one of meeting.arrivals) sumAsTree(one!.sum!, partials, one!.floats);
    }
    this.#meetings.delete(index);
    for (const one of meeting.arrivals) one!.resolve?.();
  }

  lose(rank: number): void {
    for (const member of this.members) {
      const meeting = member.pendingIndex === null ? null : this.meeting(member.pendingIndex);
      if (meeting !== null && meeting.arrivals[rank] === null) member.fail(peerLost(rank));
    }
  }

  missing(index: number): number {
    return this.meeting(index).arrivals.indexOf(null);
  }
}

class InMemoryCollective implements Collective {
  readonly rank: number;
  readonly worldSize: number;
  readonly counters: CollectiveCounters = { allReduces: 0, gathers: 0, broadcasts: 0, bytesSent: 0 };
  closed = false;
  /** Index of the meeting this rank waits in. */
  pendingIndex: number | null = null;
  readonly #group: Group;
  #failure: CollectiveError | null = null;
  #pending: Arrival | null = null;
  #operations = 0;

  constructor(group: Group, rank: number, worldSize: number) {
    this.#group = group;
    this.rank = rank;
    this.worldSize = worldSize;
  }

  allocate(_buffer: string, _place: 'partial' | 'sum', floats: number): Float32Array {
    return allocateAligned(floats).floats;
  }

  async allReduce(
    tag: CollectiveTag,
    partial: Float32Array,
    sum: Float32Array,
    floats: number,
  ): Promise<void> {
    assert(floats <= partial.length && floats <= sum.length, `${floats} floats of ${partial.length}`);
    assert(partial !== sum || this.worldSize === 1, 'partial and sum are different memory');
    await this.#meet('all-reduce', tag, { partial, sum, floats });
    this.counters.allReduces += 1;
    this.counters.bytesSent += (this.worldSize - 1) * floats * Float32Array.BYTES_PER_ELEMENT;
  }

  async gather(tag: CollectiveTag, piece: Uint8Array): Promise<Uint8Array[] | null> {
    const meeting = await this.#meet('gather', tag, { bytes: piece.slice() });
    this.counters.gathers += 1;
    if (this.rank !== 0) this.counters.bytesSent += piece.byteLength;
    return this.rank === 0 ? meeting.arrivals.map((arrival) => arrival!.bytes!) : null;
  }

  async broadcast(tag: CollectiveTag, bytes: Uint8Array | null): Promise<Uint8Array> {
    assert((bytes !== null) === (this.rank === 0), 'rank 0 passes bytes, the others null');
    const meeting = await this.#meet('broadcast', tag, { bytes: bytes?.slice() ?? null });
    this.counters.broadcasts += 1;
    if (bytes !== null) this.counters.bytesSent += (this.worldSize - 1) * bytes.byteLength;
    return meeting.arrivals[0]!.bytes!.slice();
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.fail(new CollectiveError('CLOSED', null, `rank ${this.rank}: the collective is closed`));
    this.#group.lose(this.rank);
  }

  fail(error: CollectiveError): void {
    this.#failure ??= error;
    this.#pending?.reject?.(this.#failure);
    this.#pending = null;
    this.pendingIndex = null;
  }

  async #meet(
    operation: Operation,
    tag: CollectiveTag,
    what: Partial<Pick<Arrival, 'partial' | 'sum' | 'floats' | 'bytes'>>,
  ): Promise<Meeting> {
    if (this.#failure !== null) throw this.#failure;
    assert(this.#pending === null, 'one operation at a time');
    const index = this.#operations++;
    const meeting = this.#group.meeting(index);
    const arrival: Arrival = {
      operation,
      tag: { ...tag },
      partial: what.partial ?? null,
      sum: what.sum ?? null,
      floats: what.floats ?? 0,
      bytes: what.bytes ?? null,
      resolve: null,
      reject: null,
    };
    const sendsOnly =
      (operation === 'gather' && this.rank !== 0) || (operation === 'broadcast' && this.rank === 0);
    if (sendsOnly) {
      this.#group.arrive(index, this.rank, arrival);
      if (this.#failure !== null) throw this.#failure;
      return meeting;
    }
    let timer: NodeJS.Timeout | null = null;
    try {
      await new Promise<void>((resolve, reject) => {
        arrival.resolve = resolve;
        arrival.reject = reject;
        this.#pending = arrival;
        this.pendingIndex = index;
        const { timeoutMs } = this.#group;
        if (timeoutMs !== null) {
          timer = setTimeout(() => this.fail(timedOut(this.#group.missing(index), timeoutMs)), timeoutMs);
        }
        // A receiver of a broadcast needs rank 0 only, but waits for the others here as well: the same result.
        this.#group.arrive(index, this.rank, arrival);
      });
    } finally {
      if (timer !== null) clearTimeout(timer);
      this.#pending = null;
      this.pendingIndex = null;
    }
    return meeting;
  }
}

const sameOperation = (a: Arrival, b: Arrival): boolean =>
  a.operation === b.operation && a.tag.step === b.tag.step && a.tag.op === b.tag.op && a.floats === b.floats;

const describe = ({ operation, tag, floats }: Arrival): string =>
  `${operation} of step ${tag.step}, op ${tag.op}${operation === 'all-reduce' ? `, ${floats} floats` : ''}`;

const peerLost = (rank: number): CollectiveError =>
  new CollectiveError('PEER_LOST', rank, `rank ${rank} is gone`);

const timedOut = (rank: number, timeoutMs: number): CollectiveError =>
  new CollectiveError('TIMEOUT', rank, `rank ${rank} did not come within ${timeoutMs} ms`);
