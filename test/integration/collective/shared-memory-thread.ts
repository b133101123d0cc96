/**
 * One rank of a shared-memory collective in a thread of its own, for shared-memory.test.ts: carries out the calls
 * of its RankProxy. A rank blocks its thread while it waits, so n ranks need n threads.
 */

import { type MessagePort, workerData } from 'node:worker_threads';
import koffi from 'koffi';
import type {
  Collective,
  CollectiveCounters,
  CollectiveTag,
} from '../../../shard-worker/collective/collective.js';
import { SharedMemoryCollective } from '../../../shard-worker/collective/shared-memory.js';
import { BOARD_BYTES, Board } from '../../../shard-worker/collective/shared-memory-board.js';
import { mapShared, openSharedFile } from '../../../shard-worker/native/shared-mapping.js';

export interface ThreadTask {
  port: MessagePort;
  /** Word 0 counts the answers, so that a thread can wait for one. */
  answered: Int32Array;
  options: {
    rank: number;
    worldSize: number;
    timeoutMs: number;
    spinUs: number;
    /** The group's memory, in this process. */
    fd: number;
  };
}

export type Call =
  | { call: 'join' | 'close' }
  | { call: 'allocate'; buffer: string; place: 'partial' | 'sum'; floats: number }
  | { call: 'all-reduce'; tag: CollectiveTag; partial: number; sum: number; floats: number }
  | { call: 'gather'; tag: CollectiveTag; piece: Uint8Array }
  | { call: 'broadcast'; tag: CollectiveTag; bytes: Uint8Array | null };

export interface Answer {
  value?: unknown;
  error?: { name: string; kind?: string; peer?: number | null; message: string };
  counters: CollectiveCounters | null;
}

const { answered, options, port } = workerData as ThreadTask;
const buffers: Float32Array[] = [];
let collective: Collective | null = null;

async function carryOut(call: Call): Promise<unknown> {
  if (call.call === 'join') {
    const { rank, worldSize } = options;
    const fd = openSharedFile(process.pid, options.fd);
    const board = new Board({ ...options, memory: mapShared(fd, 0, BOARD_BYTES) });
    board.join();
    const joined = new SharedMemoryCollective({ rank, worldSize, fd, board });
    collective = joined;
    return koffi.address(joined.stateWord);
  }
  const one = collective!;
  switch (call.call) {
    case 'allocate': {
      const memory = one.allocate(call.buffer, call.place, call.floats);
      buffers.push(memory);
      return { index: buffers.length - 1, address: koffi.address(memory) };
    }
    case 'all-reduce':
      return one.allReduce(call.tag, buffers[call.partial]!, buffers[call.sum]!, call.floats);
    case 'gather':
      return one.gather(call.tag, call.piece);
    case 'broadcast':
      return one.broadcast(call.tag, call.bytes);
    case 'close':
      return one.close();
  }
}

port.on('message', (call: Call) => {
  const answer = (result: Omit<Answer, 'counters'>): void => {
    port.postMessage({ ...result, counters: collective?.counters ?? null });
    Atomics.add(answered, 0, 1);
    Atomics.notify(answered, 0);
  };
  carryOut(call).then(
    (value) => answer({ value }),
    (error: Error & { kind?: string; peer?: number | null }) => {
      const { kind, message, name, peer } = error;
      answer({ error: { name, message, ...(kind === undefined ? {} : { kind, peer: peer ?? null }) } });
    },
  );
});
