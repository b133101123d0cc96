/**
 * Collectives between the ranks of one group: one interface over all transports.
 *
 * Implementations  single-rank (no peer), in-memory (the readable definition of correct, for tests that run n ranks in one
 *                  process), zeromq (between processes and hosts), shared-memory (between processes of one host), linked-devices
 *                  (beside one of these, between devices that add without the host).
 * Sums             are made as the same tree by every rank (tree-sum.ts), so that all ranks hold the same bits. Devices add in an order
 *                  of their own, which is the same on all ranks too.
 * Order            every rank calls the same operations in the same order. `tag` says which: a peer at another tag is a bug
 *                  and is refused (OUT_OF_STEP), a peer that is late is waited for until the deadline (TIMEOUT), a peer that
 *                  is gone is reported (PEER_LOST).
 */
import type { DeviceBuffer } from '../device/device.js';

/** Which operation this is: the step's number, and the operation's index in the step. */
export interface CollectiveTag {
  step: number;
  op: number;
}

/** Sums in the memory of the ranks' devices. */
export interface DeviceSums {
  /**
   * Like `allReduce`, of the device's buffers. When it has ended, the sum is asked for: what the device is asked for later finds it.
   *
   * @throws CollectiveError
   */
  sumOnDevice(
    tag: CollectiveTag,
    partial: DeviceBuffer,
    sum: DeviceBuffer,
    floats: number,
  ): void | Promise<void>;

  /** Before the host reads: the device has done all that it was asked for. @throws CollectiveError */
  settle(): Promise<void>;
}

export interface CollectiveCounters {
  allReduces: number;
  gathers: number;
  broadcasts: number;
  bytesSent: number;
  /** Time in all-reduces before the last rank had arrived; absent where the transport can't tell. */
  skewUs?: number;
}

export interface Collective {
  readonly rank: number; // 0 … worldSize - 1
  readonly worldSize: number;
  readonly counters: CollectiveCounters;

  /**
   * Memory for a buffer of place `partial` or `sum` of the manifest; asked for once a buffer, at load. The segment before an
   * all-reduce writes this rank's partial sum into the first; the segment after it reads the second. They may be the same
   * memory (single rank). A transport may still be sending a partial until the next all-reduce has ended, so the manifest
   * alternates between two of them.
   */
  allocate(buffer: string, place: 'partial' | 'sum', floats: number): Float32Array;

  /**
   * Gives the pages of `memory`, which `allocate` gave, back from its first `floats` on; called after an all-reduce that had no
   * more. Absent where the transport can't.
   */
  discard?(memory: Float32Array, floats: number): void;

  /**
   * The first `floats` of `sum` become the sum over all ranks of the first `floats` of their `partial` (tree-sum.ts).
   * Both are arrays that `allocate` gave (the whole arrays, not views).
   * Synchronous where the transport can be (shared memory, a single rank), a promise where it can't (ZeroMQ).
   *
   * @throws CollectiveError
   */
  allReduce(
    tag: CollectiveTag,
    partial: Float32Array,
    sum: Float32Array,
    floats: number,
  ): void | Promise<void>;

  /**
   * Rank 0 gets every rank's piece, in rank order (its own included); the others get null. Pieces may differ in length.
   * `piece` is copied before the call returns; what comes back may lie at any alignment. `broadcast` likewise.
   */
  gather(tag: CollectiveTag, piece: Uint8Array): Promise<Uint8Array[] | null>;

  /** Every rank gets rank 0's bytes; the others pass null. */
  broadcast(tag: CollectiveTag, bytes: Uint8Array | null): Promise<Uint8Array>;

  /** How partials that lie on a device are added there; absent: they come to the host. */
  readonly onDevice?: DeviceSums;

  /** While this rank waits for something else: a peer that is gone. Absent where the transport can't tell. @throws CollectiveError */
  checkPeers?(): void;

  /** Waits for nothing: a pending operation fails with CLOSED. */
  close(): Promise<void>;
}

export type CollectiveErrorKind = 'PEER_LOST' | 'TIMEOUT' | 'OUT_OF_STEP' | 'CLOSED';

export class CollectiveError extends Error {
  override readonly name = 'CollectiveError';
  readonly kind: CollectiveErrorKind;
  /** The rank at fault, where one is known. */
  readonly peer: number | null;

  constructor(kind: CollectiveErrorKind, peer: number | null, message: string) {
    super(message);
    this.kind = kind;
    this.peer = peer;
  }
}
