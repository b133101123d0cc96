/**
 * The collective of a group whose devices add without the host (device.ts, DeviceLink): NCCL's, between GPUs.
 *
 * In      another collective of the same group, by which the host's part goes: where everyone is, pieces, rank 0's bytes
 * Out     sums in the devices' memory: no partial sum crosses, and no step waits for the device before its end
 * How     before a sum all ranks meet over the other collective, with the number of floats: so a peer that is late, gone, or at another
 *         operation is told as ever, and no device begins a sum that its peers don't. Then it is asked for, in the device's order. `settle`
 *         looks whether the device is done, again and again, and after peers and deadline meanwhile
 * Bits    the library adds in an order of its own. Two ranks make the bits of tree-sum.ts, since a + b = b + a; more don't, so a text may
 *         differ from another degree's. All ranks hold the same bits
 * Errors  CollectiveError; an Error in the library's words. After one, all later operations fail with it, and sums that run are ended
 */
import assert from 'node:assert/strict';
import { setImmediate as immediate } from 'node:timers/promises';
import type { DeviceBuffer, DeviceLink } from '../device/device.js';
import {
  type Collective,
  type CollectiveCounters,
  CollectiveError,
  type CollectiveTag,
  type DeviceSums,
} from './collective.js';

const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;
/** What ranks meet with: floats that a sum of up to 2^12 ranks leaves whole. */
const DIGIT = 4096;
const DIGITS = 3;
/** Looks at the device between looks at peers and clock. */
const LOOKS = 64;

export interface LinkedCollectiveOptions {
  host: Collective;
  link: DeviceLink;
  /** Longest wait for the device. */
  timeoutMs: number;
}

export class LinkedCollective implements Collective, DeviceSums {
  readonly rank: number;
  readonly worldSize: number;
  readonly onDevice: DeviceSums = this;
  readonly counters: CollectiveCounters = { allReduces: 0, gathers: 0, broadcasts: 0, bytesSent: 0 };
  readonly #host: Collective;
  readonly #link: DeviceLink;
  readonly #timeoutMs: number;
  /** A partial is not used by two in a row. */
  readonly #own: readonly Float32Array[];
  readonly #met: Float32Array;
  #turn = 0;
  #isPending = false;
  #failure: unknown = null;

  constructor({ host, link, timeoutMs }: LinkedCollectiveOptions) {
    this.rank = host.rank;
    this.worldSize = host.worldSize;
    this.#host = host;
    this.#link = link;
    this.#timeoutMs = timeoutMs;
    this.#own = [0, 1].map((turn) => host.allocate(`meeting${turn}`, 'partial', DIGITS));
    this.#met = host.allocate('meeting', 'sum', DIGITS);
  }

  allocate(buffer: string, place: 'partial' | 'sum', floats: number): Float32Array {
    return this.#host.allocate(buffer, place, floats);
  }

  /** Sums in the host's memory go by the other collective. */
  allReduce(
    tag: CollectiveTag,
    partial: Float32Array,
    sum: Float32Array,
    floats: number,
  ): void | Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    this.#count(floats);
    return this.#guard(() => this.#host.allReduce(tag, partial, sum, floats));
  }

  sumOnDevice(
    tag: CollectiveTag,
    partial: DeviceBuffer,
    sum: DeviceBuffer,
    floats: number,
  ): void | Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    assert(floats <= partial.elements && floats <= sum.elements, `${floats} floats in ${partial.elements}`);
    this.#count(floats);
    this.#turn = 1 - this.#turn;
    const own = this.#own[this.#turn] ?? assert.fail();
    for (let digit = 0, left = floats; digit < DIGITS; digit++, left = Math.floor(left / DIGIT))
      own[digit] = left % DIGIT;
    return this.#guard(() => {
      const ask = (): void => {
        this.#checkMet(tag, own);
        this.#isPending = true;
        this.#link.sum(partial, sum, floats);
      };
      const meeting = this.#host.allReduce(tag, own, this.#met, DIGITS);
      if (meeting) return meeting.then(ask);
      ask();
    });
  }

  async settle(): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    if (!this.#isPending) return;
    const startedMs = performance.now();
    await this.#guard(async () => {
      for (let look = 1; !this.#link.isDone(); look++) {
        if (look % LOOKS === 0) {
          this.#host.checkPeers?.();
          if (performance.now() - startedMs > this.#timeoutMs) throw this.#timedOut();
        }
        await immediate();
        // It was closed meanwhile.
        if (this.#failure !== null) throw this.#failure;
      }
    });
    this.#isPending = false;
  }

  checkPeers(): void {
    this.#host.checkPeers?.();
  }

  gather(tag: CollectiveTag, piece: Uint8Array): Promise<Uint8Array[] | null> {
    this.counters.gathers++;
    return this.#counted(() => this.#host.gather(tag, piece));
  }

  broadcast(tag: CollectiveTag, bytes: Uint8Array | null): Promise<Uint8Array> {
    this.counters.broadcasts++;
    return this.#counted(() => this.#host.broadcast(tag, bytes));
  }

  async close(): Promise<void> {
    this.#fail(new CollectiveError('CLOSED', null, `rank ${this.rank}: the collective is closed`));
    await this.#host.close();
  }

  #count(floats: number): void {
    this.counters.allReduces++;
    this.counters.bytesSent += (this.worldSize - 1) * floats * FLOAT_BYTES;
  }

  /** What the other collective sent for it counts. */
  async #counted<T>(operation: () => Promise<T>): Promise<T> {
    if (this.#failure !== null) throw this.#failure;
    const before = this.#host.counters.bytesSent;
    try {
      return await operation();
    } catch (error) {
      throw this.#fail(error);
    } finally {
      this.counters.bytesSent += this.#host.counters.bytesSent - before;
    }
  }

  /** Everyone came with the same number of floats. */
  #checkMet({ op, step }: CollectiveTag, own: Float32Array): void {
    if (this.#failure !== null) throw this.#failure;
    if (own.every((digit, at) => this.#met[at] === digit * this.worldSize)) return;
    const text = `rank ${this.rank}: not all ranks have as many floats at all-reduce of step ${step}, op ${op}`;
    throw new CollectiveError('OUT_OF_STEP', null, text);
  }

  #guard(operation: () => void | Promise<void>): void | Promise<void> {
    try {
      const pending = operation();
      if (pending) {
        return pending.catch((error: unknown) => {
          throw this.#fail(error);
        });
      }
    } catch (error) {
      return Promise.reject(this.#fail(error));
    }
  }

  #fail(error: unknown): unknown {
    if (this.#failure === null) {
      this.#failure = error;
      this.#link.abort();
    }
    return this.#failure;
  }

  #timedOut(): CollectiveError {
    const text = `rank ${this.rank}: the GPU was not done within ${this.#timeoutMs} ms`;
    return new CollectiveError('TIMEOUT', null, text);
  }
}
