/**
 * The collective of a group of one: nothing is sent, everything ends before the call returns.
 *
 * A manifest made for one rank holds no all-reduce; this serves the chooser, and programs made for several ranks in tests.
 * `allReduce` copies: partial and sum are separate memory here too, so that a segment may write the one while it reads the
 * other, whatever the program does.
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

export class SingleRankCollective implements Collective {
  readonly rank = 0;
  readonly worldSize = 1;
  readonly counters: CollectiveCounters = { allReduces: 0, gathers: 0, broadcasts: 0, bytesSent: 0 };
  #closed = false;

  allocate(_buffer: string, _place: 'partial' | 'sum', floats: number): Float32Array {
    return allocateAligned(floats).floats;
  }

  allReduce(_tag: CollectiveTag, partial: Float32Array, sum: Float32Array, floats: number): void {
    this.#refuseIfClosed();
    if (partial !== sum) sumAsTree(sum, [partial], floats);
    this.counters.allReduces += 1;
  }

  async gather(_tag: CollectiveTag, piece: Uint8Array): Promise<Uint8Array[]> {
    this.#refuseIfClosed();
    this.counters.gathers += 1;
    return [piece.slice()];
  }

  async broadcast(_tag: CollectiveTag, bytes: Uint8Array | null): Promise<Uint8Array> {
    this.#refuseIfClosed();
    assert(bytes !== null, 'rank 0 broadcasts bytes');
    this.counters.broadcasts += 1;
    return bytes.slice();
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #refuseIfClosed(): void {
    if (this.#closed) throw new CollectiveError('CLOSED', null, 'the collective is closed');
  }
}
