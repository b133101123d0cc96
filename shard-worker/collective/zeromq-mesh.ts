/**
 * The sockets of a group: one ZeroMQ PAIR a peer, opened, greeted and watched.
 *
 * In      rank, world size, a folder that only this user can enter
 * Out     one Peer for each other rank, in rank order, each of which has said hello: right version, rank and world size
 * How     the lower rank binds, the higher connects and speaks first. Ranks may start in any order: a connect is tried again
 *         until the other side is there
 * Limits  MAX_WORLD_SIZE; MAX_FRAME_BYTES a frame; a socket path of 107 bytes (the kernel's own limit)
 * Errors  CollectiveError TIMEOUT, OUT_OF_STEP, CLOSED; all sockets are closed then
 */
import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { Pair } from 'zeromq';
import { MAX_WORLD_SIZE } from '../../proto/limits.js';
import { meshAddress } from '../../proto/worker-launch.js';
import { HEADER_BYTES } from './aligned-memory.js';
import { CollectiveError } from './collective.js';
import { checkFrame, FrameKind, initHeader, MAX_FRAME_BYTES, setHeader } from './frame.js';
import type { SumOverRanks } from './tree-sum.js';

export interface ZeromqCollectiveOptions {
  rank: number;
  worldSize: number;
  /** A folder of mode 0700. */
  socketFolder: string;
  /** Longest wait for a peer in one operation. */
  timeoutMs: number;
  /** How partial sums are added; absent: in JavaScript. */
  sum?: SumOverRanks;
  /** Longest wait for all peers' hello; absent: timeoutMs. */
  connectTimeoutMs?: number;
  /** How partials are sent; absent: none, as they are. The same on all ranks. */
  compression?: 'none' | 'int8';
  /** Aborted: connecting fails with CLOSED. */
  signal?: AbortSignal;
}

/** sockaddr_un.sun_path without its end mark. */
const MAX_SOCKET_PATH_BYTES = 107;
/** A peer is at most one operation ahead, of each kind. */
const MAX_FRAMES_IN_FLIGHT = 16;
const RECONNECT_INTERVAL_MS = 10;

const HELLO = { kind: FrameKind.HELLO, step: 0, op: 0, bytes: 0 } as const;

/** One other rank. The collective sets the callbacks; they are kept here so that no operation makes new ones. */
export class Peer {
  readonly rank: number;
  readonly socket = new Pair({
    linger: 0,
    sendTimeout: 0,
    sendHighWaterMark: MAX_FRAMES_IN_FLIGHT,
    receiveHighWaterMark: MAX_FRAMES_IN_FLIGHT,
    maxMessageSize: MAX_FRAME_BYTES + HEADER_BYTES,
    reconnectInterval: RECONNECT_INTERVAL_MS,
  });
  /** Its end of the connection was closed: frames that arrived before can still be read. */
  gone = false;
  greeted = false;
  onMessages: (messages: Buffer[]) => void = () => {};
  onReceiveError: (error: unknown) => void = () => {};
  onSendError: (error: unknown) => void = () => {};
  onGone: () => void = () => {};

  constructor(rank: number) {
    this.rank = rank;
    this.socket.events.on('disconnect', () => {
      // Before its hello a peer may come back: it is another attempt to connect.
      if (!this.greeted) return;
      this.gone = true;
      this.onGone();
    });
  }

  close(): void {
    if (!this.socket.closed) this.socket.close();
  }
}

/** Open all sockets and exchange hellos. */
export async function openMesh(options: ZeromqCollectiveOptions): Promise<Peer[]> {
  const { rank, worldSize, socketFolder, signal } = options;
  assert(worldSize >= 1 && worldSize <= MAX_WORLD_SIZE, `world size ${worldSize} of 1 … ${MAX_WORLD_SIZE}`);
  assert(rank >= 0 && rank < worldSize, `rank ${rank} of ${worldSize}`);
  await checkFolder(socketFolder, worldSize);
  const ranks = Array.from({ length: worldSize }, (_, peer) => peer).filter((peer) => peer !== rank);
  if (signal?.aborted) throw closedWhileConnecting(rank);
  const peers = ranks.map((peer) => new Peer(peer));
  const timeoutMs = options.connectTimeoutMs ?? options.timeoutMs;
  let timer: NodeJS.Timeout | undefined;
  let abort = (): void => {};
  try {
    await Promise.race([
      Promise.all(peers.map((peer) => greet(peer, rank, worldSize, socketFolder))),
      new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(missing(rank, peers, timeoutMs)), timeoutMs);
        abort = () => reject(closedWhileConnecting(rank));
        signal?.addEventListener('abort', abort, { once: true });
      }),
    ]);
  } catch (error) {
    for (const peer of peers) peer.close();
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
  return peers;
}

async function greet(peer: Peer, rank: number, worldSize: number, socketFolder: string): Promise<void> {
  const header = new Int32Array(HEADER_BYTES / 4);
  initHeader(header, rank, worldSize);
  setHeader(header, FrameKind.HELLO, HELLO, 0);
  const hello = Buffer.from(header.buffer);
  const address = meshAddress(socketFolder, rank, peer.rank);
  const binds = rank < peer.rank;
  if (binds) {
    await peer.socket.bind(address);
  } else {
    peer.socket.connect(address);
    await peer.socket.send(hello);
  }
  const [frame] = await peer.socket.receive();
  checkFrame(frame!, peer.rank, rank, worldSize, HELLO);
  peer.greeted = true;
  if (binds) await peer.socket.send(hello);
}

async function checkFolder(folder: string, worldSize: number): Promise<void> {
  const path = meshAddress(folder, worldSize - 1, worldSize - 1).slice('ipc://'.length);
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) {
    throw new Error(`socket path ${path} is longer than ${MAX_SOCKET_PATH_BYTES} bytes`);
  }
  const { mode } = await stat(folder);
  if ((mode & 0o077) !== 0) {
    throw new Error(`socket folder ${folder} has mode ${(mode & 0o777).toString(8)}; it must be 700`);
  }
}

function missing(rank: number, peers: readonly Peer[], timeoutMs: number): CollectiveError {
  const absent = peers.filter((peer) => !peer.greeted).map((peer) => peer.rank);
  return new CollectiveError(
    'TIMEOUT',
    absent[0] ?? null,
    `rank ${rank}: no hello from rank ${absent.join(', ')} within ${timeoutMs} ms`,
  );
}

const closedWhileConnecting = (rank: number): CollectiveError =>
  new CollectiveError('CLOSED', null, `rank ${rank}: closed while it waited for its peers`);
