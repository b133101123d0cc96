/**
 * Joining the ranks of one host by shared memory: who makes it, how the others find it, and what happens if they can't.
 *
 * In      rank, world size, the folder of the sockets
 * Out     a SharedMemoryCollective on every rank; or the ZeroMQ collective on every rank, and the reason
 * How     the ranks meet over ZeroMQ. Rank 0 makes the memory and tells its process, descriptor and a number that stands
 *         inside; the others open it, look for the number (so that it is this memory, of this host), and answer; rank 0 tells
 *         everyone the verdict. The sockets stay open, unused, until close
 * Errors  CollectiveError of the meeting. An Error with the reason where shared memory fails and `onFallback` is absent
 */
import { randomInt } from 'node:crypto';
import { closeSync } from 'node:fs';
import { createSharedFile, mapShared, openSharedFile, unmapShared } from '../native/shared-mapping.js';
import type { Collective } from './collective.js';
import { SharedMemoryCollective, sharedBytes } from './shared-memory.js';
import { BOARD_BYTES, Board } from './shared-memory-board.js';
import { SingleRankCollective } from './single-rank.js';
import { connectZeromqCollective } from './zeromq.js';
import type { ZeromqCollectiveOptions } from './zeromq-mesh.js';

export interface SharedMemoryGroupOptions extends ZeromqCollectiveOptions {
  /** How long a rank looks again and again before it sleeps; 0 where ranks have to share cores. Absent: 50. */
  spinUs?: number;
  /** Called with the reason when the group goes on over ZeroMQ instead; absent: that is an error. */
  onFallback?: (reason: string) => void;
  /** For tests: in place of the calls that make and open the memory. */
  createFile?: (label: string, bytes: number) => number;
  openFile?: (pid: number, fd: number) => number;
}

/** Measured: a peer that is not there within this is there much later; and a neighbour may want the core. */
const SPIN_US = 50;

/** What rank 0 tells: where the memory is, or why there is none. */
type Offer = { pid: number; fd: number; nonce: number } | { error: string };

interface Joined {
  fd: number;
  board: Board;
  offer: Offer;
}

export async function connectSharedMemoryCollective(options: SharedMemoryGroupOptions): Promise<Collective> {
  const { onFallback, rank, worldSize } = options;
  if (worldSize === 1) return new SingleRankCollective();
  const mesh = await connectZeromqCollective(options);
  let joined: Joined | null = null;
  let own = '';
  try {
    if (rank === 0) joined = create(options);
  } catch (error) {
    own = reasonOf(rank, error);
  }
  const offer = await tell<Offer>(mesh, 0, joined?.offer ?? { error: own });
  if ('error' in offer) own = offer.error;
  try {
    if (rank !== 0 && !('error' in offer)) joined = open(options, offer);
  } catch (error) {
    own = reasonOf(rank, error);
  }
  const answers = await mesh.gather({ step: 0, op: 1 }, Buffer.from(own));
  const verdict = await tell<string>(
    mesh,
    2,
    (answers ?? []).map((answer) => Buffer.from(answer).toString()).find((reason) => reason !== '') ?? '',
  );
  if (verdict === '' && joined) {
    const { fd, board } = joined;
    return new SharedMemoryCollective({
      rank,
      worldSize,
      fd,
      board,
      ...(options.sum ? { sum: options.sum } : {}),
      onClose: () => void mesh.close(),
    });
  }
  if (joined) closeSync(joined.fd);
  if (!onFallback) {
    await mesh.close();
    throw new Error(`no shared memory: ${verdict}`);
  }
  onFallback(verdict);
  // What was counted so far was the meeting's.
  Object.assign(mesh.counters, { gathers: 0, broadcasts: 0, bytesSent: 0 });
  return mesh;
}

function create(options: SharedMemoryGroupOptions): Joined {
  const createFile = options.createFile ?? createSharedFile;
  const fd = createFile('shardserve-collective', sharedBytes(options.worldSize));
  const nonce = randomInt(2 ** 31);
  const board = mapBoard(fd, options, (made) => made.found(nonce));
  return { fd, board, offer: { pid: process.pid, fd, nonce } };
}

function open(options: SharedMemoryGroupOptions, offer: Exclude<Offer, { error: string }>): Joined {
  const fd = (options.openFile ?? openSharedFile)(offer.pid, offer.fd);
  const board = mapBoard(fd, options, (found) => {
    if (!found.isOf(offer.nonce)) throw new Error('the file is not the memory of this group');
  });
  return { fd, board, offer };
}

function mapBoard(
  fd: number,
  { rank, spinUs = SPIN_US, timeoutMs, worldSize }: SharedMemoryGroupOptions,
  check: (board: Board) => void,
): Board {
  try {
    const memory = mapShared(fd, 0, BOARD_BYTES);
    const board = new Board({ memory, rank, worldSize, timeoutMs, spinUs });
    try {
      check(board);
    } catch (error) {
      unmapShared(memory);
      throw error;
    }
    board.join();
    return board;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Rank 0's value on every rank. */
async function tell<T>(mesh: Collective, op: number, value: T): Promise<T> {
  const bytes = mesh.rank === 0 ? Buffer.from(JSON.stringify(value)) : null;
  return JSON.parse(Buffer.from(await mesh.broadcast({ step: 0, op }, bytes)).toString()) as T;
}

const reasonOf = (rank: number, error: unknown): string => `rank ${rank}: ${(error as Error).message}`;
