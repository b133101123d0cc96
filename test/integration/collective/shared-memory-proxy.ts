/**
 * A Collective whose rank runs in another thread (shared-memory-thread.ts). Its buffers are the rank's own memory,
 * seen from here; a call is sent, and its answer awaited.
 */
import assert from 'node:assert/strict';
import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads';
import koffi from 'koffi';
import {
  type Collective,
  type CollectiveCounters,
  CollectiveError,
  type CollectiveErrorKind,
  type CollectiveTag,
} from '../../../shard-worker/collective/collective.js';
import { RankState } from '../../../shard-worker/collective/shared-memory-board.js';
import type { Answer, Call, ThreadTask } from './shared-memory-thread.js';

export class RankProxy implements Collective {
  readonly rank: number;
  readonly worldSize: number;
  counters: CollectiveCounters = { allReduces: 0, gathers: 0, broadcasts: 0, bytesSent: 0 };
  readonly #worker: Worker;
  readonly #port;
  readonly #answered = new Int32Array(new SharedArrayBuffer(4));
  readonly #pending: ((answer: Answer) => void)[] = [];
  readonly #indices = new Map<Float32Array, number>();
  #stateWord: Int32Array | null = null;
  #failure: CollectiveError | null = null;

  private constructor(options: ThreadTask['options']) {
    const { port1, port2 } = new MessageChannel();
    this.rank = options.rank;
    this.worldSize = options.worldSize;
    this.#port = port1;
    const workerData: ThreadTask = { port: port2, answered: this.#answered, options };
    this.#worker = new Worker(new URL('shared-memory-thread.js', import.meta.url), {
      workerData,
      // The descriptors of the memory come from the C library.
      trackUnmanagedFds: false,
      transferList: [port2],
    });
    this.#worker.on('error', (error) => {
      throw error;
    });
    port1.on('message', (answer: Answer) => this.#take(answer));
  }

  static async join(options: ThreadTask['options']): Promise<RankProxy> {
    const proxy = new RankProxy(options);
    const address = (await proxy.#send({ call: 'join' })) as bigint;
    proxy.#stateWord = new Int32Array(koffi.view(address, 4));
    return proxy;
  }

  allocate(buffer: string, place: 'partial' | 'sum', floats: number): Float32Array {
    assert(this.#pending.length === 0, 'a rank that waits allocates nothing');
    this.#port.postMessage({ call: 'allocate', buffer, place, floats } satisfies Call);
    const answer = this.#nextAnswer();
    const { address, index } = answer.value as { index: number; address: bigint };
    const memory = new Float32Array(koffi.view(address, floats * 4));
    this.#indices.set(memory, index);
    return memory;
  }

  allReduce(tag: CollectiveTag, partial: Float32Array, sum: Float32Array, floats: number): Promise<void> {
    const [from, to] = [partial, sum].map((memory) => this.#indices.get(memory)!);
    return this.#send({ call: 'all-reduce', tag, partial: from!, sum: to!, floats }) as Promise<void>;
  }

  gather(tag: CollectiveTag, piece: Uint8Array): Promise<Uint8Array[] | null> {
    return this.#send({ call: 'gather', tag, piece }) as Promise<Uint8Array[] | null>;
  }

  broadcast(tag: CollectiveTag, bytes: Uint8Array | null): Promise<Uint8Array> {
    return this.#send({ call: 'broadcast', tag, bytes }) as Promise<Uint8Array>;
  }

  async close(): Promise<void> {
    // The rank's thread may be blocked in an operation: only its state word reaches it.
    if (this.#stateWord && this.#pending.length > 0) Atomics.store(this.#stateWord, 0, RankState.CLOSED);
    await this.#send({ call: 'close' });
  }

  /** End the thread. */
  async end(): Promise<void> {
    this.#port.close();
    await this.#worker.terminate();
  }

  /** The caller wants it now: taken from the port by hand. */
  #nextAnswer(): Answer {
    for (;;) {
      const before = Atomics.load(this.#answered, 0);
      const received = receiveMessageOnPort(this.#port);
      if (received) return received.message as Answer;
      Atomics.wait(this.#answered, 0, before);
    }
  }

  #send(call: Call): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#pending.push(({ error, value }) => (error ? reject(this.#known(error)) : resolve(value)));
      this.#port.postMessage(call);
    });
  }

  #take(answer: Answer): void {
    if (answer.counters) this.counters = answer.counters;
    this.#pending.shift()!(answer);
  }

  /** The rank throws the same error again and again; here it is the same object again too. */
  #known({ kind, message, name, peer }: NonNullable<Answer['error']>): Error {
    if (kind === undefined) return Object.assign(new Error(message), { name });
    if (this.#failure?.message !== message) {
      this.#failure = new CollectiveError(kind as CollectiveErrorKind, peer ?? null, message);
    }
    return this.#failure;
  }
}
