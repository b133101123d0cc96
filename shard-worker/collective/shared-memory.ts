/**
 * The collective between the ranks of one host: partial sums in memory that all of them see, nothing is sent.
 *
 * In      partials that this rank's segments wrote into the shared memory; pieces; rank 0's bytes
 * Out     sums with the same bits on every rank; pieces at rank 0; rank 0's bytes everywhere
 * How     one-shot between two ranks and below SPLIT_FLOATS: everyone waits until everyone has arrived (shared-memory-board.ts) and adds all
 *         partials (tree-sum.ts). From there on each rank adds its share of the values, into the sums of all ranks, and
 *         all meet once more: every value is still added alike, by one rank instead of by all
 * Reuse   a partial that peers may still be reading must not be written. Peers that came to the next all-reduce have ended
 *         this one, so it is free again once the next all-reduce is over: no partial is used by two in a row (asserted here,
 *         arranged by the manifest). A gather with the broadcast that answers it proves the same. A sum is written by peers
 *         only between their two meetings in an all-reduce of this very sum, when this rank is in it too
 * Copies  none of partials. Pieces of gather and broadcast go through each rank's mailbox: one copy in, one out
 * Waits   block this thread and its event loop: what ends them is the deadline, a peer's death, or the state word
 * Memory  one memfd a group, sparse; a page counts once touched. Gone with the last process of the group
 * Limits  MAX_WORLD_SIZE ranks; AREA_BYTES of partials and sums a rank; MAILBOX_BYTES a piece
 * Errors  CollectiveError. After one every later operation fails with it: the group has to restart
 */
import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { discardShared, PAGE_BYTES, wholePages } from '../native/libc.js';
import { mapShared, type SharedMapping, unmapShared } from '../native/shared-mapping.js';
import type { Collective, CollectiveCounters, CollectiveTag } from './collective.js';
import { BOARD_BYTES, type Board, closed, Phase, RankState } from './shared-memory-board.js';
import { type SumOverRanks, sumAsTree } from './tree-sum.js';

/**
 * From here on each of three or more ranks adds its share only. Two ranks read as much either way and would meet twice: one-shot
 * is 1.03 as fast at a prompt of 512 tokens (1 Mi floats), 1.05 at 32 sequences.
 */
export const SPLIT_FLOATS = 65_536;
/** Shares begin at cache lines. */
const SHARE_FLOATS = 16;
const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;
/** Addresses in the file, of which what is touched becomes memory. */
const AREA_BYTES = 2 ** 34;
const MAILBOX_BYTES = 2 ** 30;
/** What is mapped of a mailbox at first: a whole row of logits of most models. */
const FIRST_MAILBOX_BYTES = 2 ** 20;

/** The size of a group's file. */
export const sharedBytes = (worldSize: number): number =>
  BOARD_BYTES + worldSize * (AREA_BYTES + MAILBOX_BYTES);

/** Memory of one buffer, as all ranks have it, in rank order. */
interface Region {
  readonly place: 'partial' | 'sum';
  /** In pages, from the beginning of each rank's area. */
  readonly page: number;
  readonly ofRanks: readonly Float32Array[];
  /** This rank's. */
  readonly address: number;
  readonly bytes: number;
}

export interface SharedMemoryCollectiveOptions {
  rank: number;
  worldSize: number;
  /** The group's memory; closed with the collective. */
  fd: number;
  board: Board;
  /** How partial sums are added; absent: in JavaScript. */
  sum?: SumOverRanks;
  /** Called once, by close. */
  onClose?: () => void;
}

export class SharedMemoryCollective implements Collective {
  readonly rank: number;
  readonly worldSize: number;
  readonly counters: CollectiveCounters = {
    allReduces: 0,
    gathers: 0,
    broadcasts: 0,
    bytesSent: 0,
    skewUs: 0,
  };
  readonly #fd: number;
  readonly #board: Board;
  readonly #sumAsTree: SumOverRanks;
  readonly #onClose: () => void;
  readonly #regions = new Map<Float32Array, Region>();
  readonly #mailboxes: SharedMapping[];
  #allocatedPages = 0;
  /** May still be read by a peer, as far as this rank knows. */
  #lastPartial: Float32Array | null = null;
  #gathered = false;
  /** Tick of the last piece in this rank's mailbox; null: none yet. */
  #lastPosted: number | null = null;
  #failure: unknown = null;
  #isClosed = false;

  constructor(options: SharedMemoryCollectiveOptions) {
    this.rank = options.rank;
    this.worldSize = options.worldSize;
    this.#fd = options.fd;
    this.#board = options.board;
    this.#sumAsTree = options.sum ?? sumAsTree;
    this.#onClose = options.onClose ?? (() => {});
    this.#mailboxes = this.#ranks().map((rank) =>
      mapShared(this.#fd, this.#mailboxAt(rank), FIRST_MAILBOX_BYTES),
    );
  }

  /** One word: RankState. Any thread may store CLOSED in it, to end a wait that this rank's thread is blocked in. */
  get stateWord(): Int32Array {
    return this.#board.stateWord;
  }

  allocate(buffer: string, place: 'partial' | 'sum', floats: number): Float32Array {
    const page = this.#allocatedPages;
    const pages = Math.max(1, Math.ceil((floats * FLOAT_BYTES) / PAGE_BYTES));
    this.#allocatedPages += pages;
    assert(
      this.#allocatedPages * PAGE_BYTES <= AREA_BYTES,
      `buffer ${buffer} of ${floats} floats is beyond the ${AREA_BYTES} bytes of partials and sums of one rank`,
    );
    const mapped = this.#ranks().map((rank) =>
      mapShared(this.#fd, BOARD_BYTES + rank * AREA_BYTES + page * PAGE_BYTES, pages * PAGE_BYTES),
    );
    const ofRanks = mapped.map(({ buffer }) => new Float32Array(buffer, 0, floats));
    const own = ofRanks[this.rank]!;
    const { address, bytes } = mapped[this.rank]!;
    this.#regions.set(own, { place, page, ofRanks, address, bytes });
    return own;
  }

  /** Peers read, and of a sum write, no more than the last all-reduce had: they are past the one before. */
  discard(memory: Float32Array, floats: number): void {
    const region = this.#regions.get(memory);
    assert(region, 'memory is an array that allocate gave');
    const kept = wholePages(floats * FLOAT_BYTES);
    if (kept < region.bytes) discardShared(region.address + kept, region.bytes - kept);
  }

  allReduce(tag: CollectiveTag, partial: Float32Array, sum: Float32Array, floats: number): void {
    if (this.#failure !== null) throw this.#failure;
    const from = this.#regions.get(partial);
    const to = this.#regions.get(sum);
    assert(from?.place === 'partial' && to?.place === 'sum', 'partial and sum are arrays that allocate gave');
    assert(
      floats <= partial.length && floats <= sum.length,
      `${floats} floats in memory of ${partial.length}`,
    );
    assert(
      partial !== this.#lastPartial,
      'a partial was used by two all-reduces in a row: a peer may still be reading it',
    );
    this.#lastPartial = partial;
    this.#gathered = false;
    const bytes = floats * FLOAT_BYTES;
    const peers = this.worldSize - 1;
    const board = this.#board;
    this.counters.allReduces += 1;
    this.counters.bytesSent += peers * bytes;
    try {
      board.arrive(Phase.ALL_REDUCE, tag.step, tag.op, bytes, from.page, to.page);
      board.awaitAll();
      this.counters.skewUs = board.skewUs;
      if (floats < SPLIT_FLOATS || this.worldSize === 2) {
        this.#sumAsTree(sum, from.ofRanks, floats, true);
        return;
      }
      this.#addShare(from.ofRanks, to.ofRanks, floats);
      board.arrive(Phase.SCATTERED, tag.step, tag.op, bytes, from.page, to.page);
      board.awaitAll();
    } catch (error) {
      throw this.#fail(error);
    }
  }

  async gather(tag: CollectiveTag, piece: Uint8Array): Promise<Uint8Array[] | null> {
    if (this.#failure !== null) throw this.#failure;
    const board = this.#board;
    this.counters.gathers += 1;
    this.#gathered = true;
    try {
      if (this.rank !== 0) {
        if (this.#lastPosted !== null) board.awaitTaken(0, this.#lastPosted);
        this.#post(Phase.GATHER, tag, piece);
        this.counters.bytesSent += piece.byteLength;
        return null;
      }
      const pieces = [piece.slice()];
      board.arrive(Phase.GATHER, tag.step, tag.op, piece.byteLength, 0, 0);
      for (let peer = 1; peer < this.worldSize; peer++) {
        board.awaitRank(peer);
        pieces.push(this.#mailbox(peer, board.bytesOf(peer)).slice());
      }
      board.take();
      this.#lastPartial = null;
      return pieces;
    } catch (error) {
      throw this.#fail(error);
    }
  }

  async broadcast(tag: CollectiveTag, bytes: Uint8Array | null): Promise<Uint8Array> {
    if (this.#failure !== null) throw this.#failure;
    assert((bytes !== null) === (this.rank === 0), 'rank 0 passes bytes, the others null');
    const board = this.#board;
    this.counters.broadcasts += 1;
    try {
      if (bytes !== null) {
        if (this.#lastPosted !== null) {
          for (let peer = 1; peer < this.worldSize; peer++) board.awaitTaken(peer, this.#lastPosted);
        }
        this.#post(Phase.BROADCAST, tag, bytes);
        this.counters.bytesSent += (this.worldSize - 1) * bytes.byteLength;
        return bytes.slice();
      }
      board.arrive(Phase.BROADCAST, tag.step, tag.op, 0, 0, 0);
      board.awaitRank(0);
      const copy = this.#mailbox(0, board.bytesOf(0)).slice();
      board.take();
      // Rank 0 answers a gather when everyone came to it, that is, had ended the all-reduce before.
      if (this.#gathered) this.#lastPartial = null;
      return copy;
    } catch (error) {
      throw this.#fail(error);
    }
  }

  checkPeers(): void {
    if (this.#failure !== null) throw this.#failure;
    try {
      this.#board.checkPeers();
    } catch (error) {
      throw this.#fail(error);
    }
  }

  /** The memory stays mapped: bound tensors point into it until the process ends. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#failure ??= closed(this.rank);
    this.#board.setState(RankState.CLOSED);
    closeSync(this.#fd);
    this.#onClose();
  }

  /** This rank's share of the values, into the sums of all ranks. */
  #addShare(partials: readonly Float32Array[], sums: readonly Float32Array[], floats: number): void {
    const lines = Math.ceil(floats / SHARE_FLOATS);
    const start = Math.floor((lines * this.rank) / this.worldSize) * SHARE_FLOATS;
    const next = Math.floor((lines * (this.rank + 1)) / this.worldSize) * SHARE_FLOATS;
    const end = Math.min(floats, next);
    const share = (memory: Float32Array): Float32Array => memory.subarray(start, end);
    const own = share(sums[this.rank]!);
    this.#sumAsTree(own, partials.map(share), end - start);
    for (let peer = 0; peer < this.worldSize; peer++) {
      if (peer !== this.rank) sums[peer]!.set(own, start);
    }
  }

  #post(phase: Phase, tag: CollectiveTag, bytes: Uint8Array): void {
    this.#mailbox(this.rank, bytes.byteLength).set(bytes);
    this.#board.arrive(phase, tag.step, tag.op, bytes.byteLength, 0, 0);
    this.#lastPosted = this.#board.tick;
  }

  #mailbox(rank: number, bytes: number): Uint8Array {
    const mapped = this.#mailboxes[rank]!;
    if (bytes <= mapped.bytes) return new Uint8Array(mapped.buffer, 0, bytes);
    assert(bytes <= MAILBOX_BYTES, `a piece of ${bytes} bytes is beyond the ${MAILBOX_BYTES} of a mailbox`);
    const size = Math.min(MAILBOX_BYTES, 2 ** Math.ceil(Math.log2(bytes)));
    const larger = mapShared(this.#fd, this.#mailboxAt(rank), size);
    this.#mailboxes[rank] = larger;
    // No view of it outlives the operation that made it.
    unmapShared(mapped);
    return new Uint8Array(larger.buffer, 0, bytes);
  }

  #mailboxAt(rank: number): number {
    return BOARD_BYTES + this.worldSize * AREA_BYTES + rank * MAILBOX_BYTES;
  }

  #ranks(): number[] {
    return Array.from({ length: this.worldSize }, (_, rank) => rank);
  }

  #fail(error: unknown): unknown {
    this.#failure ??= error;
    this.#board.setState(RankState.FAILED);
    return this.#failure;
  }
}
