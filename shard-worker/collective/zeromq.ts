/**
 * The collective between processes: a full mesh of ZeroMQ PAIR sockets, one-shot all-reduce.
 *
 * In      partials that this rank's segments wrote; frames of the other ranks
 * Out     sums with the same bits on every rank; pieces at rank 0; rank 0's bytes everywhere
 * How     every rank sends its partial to every peer and adds all of them (tree-sum.ts). For one token of a model 2048 wide
 *         that is 8 KiB a peer, twice a layer: the time is latency, not bandwidth, so one hop beats a ring
 * Copies  a partial has room for the frame header right before it, so header and payload leave in one send of the memory
 *         itself: zeromq.js does not copy a buffer above 128 bytes, its I/O thread reads it some time AFTER send returned.
 *         That is safe as long as no partial is used by two all-reduces in a row (asserted here, arranged by the manifest):
 *         this rank writes partial A again only after it ended the all-reduce of partial B in between; that took every
 *         peer's frame for B, and a peer sends that only when it holds all frames for A, ours included. A gather with the
 *         broadcast that answers it proves the same. Received frames are read where they lie
 * Less    with `compression` partials leave as blocks of 8-bit numbers (block-int8.ts), a quarter of the bytes; every rank adds
 *         what was sent, its own included
 * Order   a faster peer's next frame waits in the socket: a frame is asked for only when its operation has begun
 * Limits  MAX_WORLD_SIZE ranks; MAX_FRAME_BYTES a frame; 16 frames in flight to a peer, of which 3 are ever used
 * Errors  CollectiveError. A peer whose process ends is seen by the socket monitor at once (PEER_LOST), one that stands
 *         still by the deadline (TIMEOUT). After an error every later operation fails with it: the group has to restart
 */
import assert from 'node:assert/strict';
import { allocateAligned, HEADER_BYTES } from './aligned-memory.js';
import { decode, type EncodedValues, encode, encodedBytes, encodedView } from './block-int8.js';
import {
  type Collective,
  type CollectiveCounters,
  CollectiveError,
  type CollectiveTag,
} from './collective.js';
import { checkFrame, copyIntoFrame, type Expectation, FrameKind, initHeader, setHeader } from './frame.js';
import { SingleRankCollective } from './single-rank.js';
import { type SumOverRanks, sumAsTree } from './tree-sum.js';
import { openMesh, type Peer, type ZeromqCollectiveOptions } from './zeromq-mesh.js';

const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;
/** zeromq.js copies a message of up to this length inside send; memory of a longer one must stay as it is. */
const COPIED_BY_SEND_BYTES = 128;

/** What goes to the sockets of a `partial`: the partial itself behind a header, or memory that it is encoded into. */
interface Region {
  readonly header: Int32Array<ArrayBuffer>;
  /** Header and a payload for `frameFloats` values. Kept: a decode sends the same length step after step. */
  frame: Uint8Array;
  frameFloats: number;
  /** The payload of the frame, where it is encoded. */
  encoded: EncodedValues | null;
}

/**
 * Join the group: resolves when every peer has said hello. A group of one is a SingleRankCollective.
 *
 * @throws CollectiveError TIMEOUT naming the ranks that did not come; OUT_OF_STEP when a peer is of another version or group;
 *         CLOSED when the signal was aborted
 */
export async function connectZeromqCollective(options: ZeromqCollectiveOptions): Promise<Collective> {
  if (options.worldSize === 1) return new SingleRankCollective();
  const peers = await openMesh(options);
  return new ZeromqCollective(options, peers);
}

class ZeromqCollective implements Collective {
  readonly rank: number;
  readonly worldSize: number;
  readonly counters: CollectiveCounters = { allReduces: 0, gathers: 0, broadcasts: 0, bytesSent: 0 };

  readonly #peers: readonly Peer[];
  readonly #timeoutMs: number;
  readonly #sumAsTree: SumOverRanks;
  readonly #regions = new Map<Float32Array, Region>();
  readonly #sums = new Set<Float32Array>();
  /** Still on its way to a peer, as far as this rank knows. */
  #lastPartial: Float32Array | null = null;
  #gathered = false;
  #failure: CollectiveError | null = null;

  // The one operation under way. Its state lies in fields, and the callbacks are made once: a decode step of 22 layers
  // passes here 44 times.
  readonly #expected: Expectation = { kind: FrameKind.HELLO, step: 0, op: 0, bytes: null };
  readonly #frames: (Buffer | null)[];
  readonly #summands: Float32Array[];
  readonly #isCompressed: boolean;
  /** Decoded partials, a rank each; as long as the longest partial. */
  #decoded: Float32Array[] = [];
  #missing = 0;
  #startedMs = 0;
  #partial: Float32Array | null = null;
  #sum: Float32Array | null = null;
  #floats = 0;
  #resolve: (() => void) | null = null;
  #reject: ((error: CollectiveError) => void) | null = null;
  readonly #capture = (resolve: () => void, reject: (error: CollectiveError) => void): void => {
    this.#resolve = resolve;
    this.#reject = reject;
  };

  #watchdog: NodeJS.Timeout | null = null;
  readonly #controlHeader = new Int32Array(HEADER_BYTES / 4);
  readonly #smallFrame = Buffer.allocUnsafeSlow(COPIED_BY_SEND_BYTES);

  constructor(options: ZeromqCollectiveOptions, peers: readonly Peer[]) {
    this.rank = options.rank;
    this.worldSize = options.worldSize;
    this.#timeoutMs = options.timeoutMs;
    this.#sumAsTree = options.sum ?? sumAsTree;
    this.#isCompressed = options.compression === 'int8';
    this.#peers = peers;
    this.#frames = new Array<Buffer | null>(options.worldSize).fill(null);
    this.#summands = new Array<Float32Array>(options.worldSize);
    initHeader(this.#controlHeader, this.rank, this.worldSize);
    for (const peer of peers) {
      peer.onMessages = (messages) => this.#deliver(peer, messages);
      peer.onReceiveError = (error) => this.#fail(lost(this.rank, peer.rank, error));
      peer.onSendError = peer.onReceiveError;
      peer.onGone = () => {
        if (this.#waitsFor(peer) && !peer.socket.readable) this.#fail(lost(this.rank, peer.rank));
      };
    }
  }

  allocate(_buffer: string, place: 'partial' | 'sum', floats: number): Float32Array {
    const memory = allocateAligned(floats);
    if (place === 'sum') {
      this.#sums.add(memory.floats);
      return memory.floats;
    }
    const sent = this.#isCompressed ? allocateAligned(encodedBytes(floats) / FLOAT_BYTES) : memory;
    initHeader(sent.header, this.rank, this.worldSize);
    const region = { header: sent.header, frame: new Uint8Array(0), frameFloats: 0, encoded: null };
    this.#regions.set(memory.floats, region);
    this.#resize(region, floats);
    if (this.#isCompressed && (this.#decoded[0]?.length ?? 0) < floats) {
      this.#decoded = this.#frames.map(() => new Float32Array(floats));
    }
    return memory.floats;
  }

  #payloadBytes(floats: number): number {
    return this.#isCompressed ? encodedBytes(floats) : floats * FLOAT_BYTES;
  }

  /** The frame of a region is for `floats` values from now on. */
  #resize(region: Region, floats: number): void {
    const { buffer, byteOffset } = region.header;
    region.frame = new Uint8Array(buffer, byteOffset, HEADER_BYTES + this.#payloadBytes(floats));
    region.frameFloats = floats;
    if (this.#isCompressed) region.encoded = encodedView(buffer, byteOffset + HEADER_BYTES, floats);
  }

  allReduce(
    tag: CollectiveTag,
    partial: Float32Array,
    sum: Float32Array,
    floats: number,
  ): void | Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    const region = this.#regions.get(partial);
    assert(region !== undefined && this.#sums.has(sum), 'partial and sum are arrays that allocate gave');
    assert(
      floats <= partial.length && floats <= sum.length,
      `${floats} floats in memory of ${partial.length}`,
    );
    assert(
      partial !== this.#lastPartial,
      'a partial was used by two all-reduces in a row: it may still be on its way',
    );
    const bytes = this.#payloadBytes(floats);
    setHeader(region.header, FrameKind.ALL_REDUCE, tag, bytes);
    if (region.frameFloats !== floats) this.#resize(region, floats);
    if (region.encoded !== null) encode(partial, floats, region.encoded);
    this.#lastPartial = partial;
    this.#gathered = false;
    this.#partial = partial;
    this.#sum = sum;
    this.#floats = floats;
    this.#begin(FrameKind.ALL_REDUCE, tag, bytes);
    for (const peer of this.#peers) this.#send(peer, region.frame);
    this.counters.allReduces += 1;
    this.counters.bytesSent += this.#peers.length * bytes;
    this.#missing = this.#peers.length;
    const done = new Promise<void>(this.#capture);
    for (const peer of this.#peers) this.#receive(peer);
    return done;
  }

  async gather(tag: CollectiveTag, piece: Uint8Array): Promise<Uint8Array[] | null> {
    if (this.#failure !== null) throw this.#failure;
    this.#begin(FrameKind.GATHER, tag, null);
    this.counters.gathers += 1;
    this.#gathered = true;
    if (this.rank !== 0) {
      this.#sendCopy(FrameKind.GATHER, tag, piece, this.#peers[0]!);
      return null;
    }
    const own = piece.slice();
    this.#missing = this.#peers.length;
    const done = new Promise<void>(this.#capture);
    for (const peer of this.#peers) this.#receive(peer);
    await done;
    this.#lastPartial = null;
    const pieces = this.#frames.map((frame) => (frame === null ? own : frame.subarray(HEADER_BYTES)));
    this.#frames.fill(null);
    return pieces;
  }

  async broadcast(tag: CollectiveTag, bytes: Uint8Array | null): Promise<Uint8Array> {
    if (this.#failure !== null) throw this.#failure;
    assert((bytes !== null) === (this.rank === 0), 'rank 0 passes bytes, the others null');
    this.#begin(FrameKind.BROADCAST, tag, null);
    this.counters.broadcasts += 1;
    if (bytes !== null) {
      for (const peer of this.#peers) this.#sendCopy(FrameKind.BROADCAST, tag, bytes, peer);
      return bytes.slice();
    }
    this.#missing = 1;
    const done = new Promise<void>(this.#capture);
    this.#receive(this.#peers[0]!);
    await done;
    const frame = this.#frames[0]!;
    this.#frames.fill(null);
    // A rank takes part in a gather when it holds all frames of the all-reduce before, and rank 0 answers when all did.
    if (this.#gathered) this.#lastPartial = null;
    return frame.subarray(HEADER_BYTES);
  }

  checkPeers(): void {
    const gone = this.#peers.find((peer) => peer.gone && !peer.socket.readable);
    if (gone !== undefined) this.#fail(lost(this.rank, gone.rank));
    if (this.#failure !== null) throw this.#failure;
  }

  async close(): Promise<void> {
    this.#fail(new CollectiveError('CLOSED', null, `rank ${this.rank}: the collective is closed`));
    for (const peer of this.#peers) peer.close();
  }

  #begin(kind: FrameKind, tag: CollectiveTag, bytes: number | null): void {
    assert(this.#resolve === null, 'one operation at a time');
    this.#expected.kind = kind;
    this.#expected.step = tag.step;
    this.#expected.op = tag.op;
    this.#expected.bytes = bytes;
    this.#startedMs = performance.now();
    if (this.#watchdog === null) this.#watch(this.#timeoutMs);
  }

  #send(peer: Peer, frame: Uint8Array): void {
    // sendTimeout is 0, so the message is with the I/O thread, or refused, when this returns.
    peer.socket.send(frame).catch(peer.onSendError);
  }

  #sendCopy(kind: FrameKind, tag: CollectiveTag, payload: Uint8Array, peer: Peer): void {
    setHeader(this.#controlHeader, kind, tag, payload.byteLength);
    this.#send(peer, copyIntoFrame(this.#controlHeader, payload, this.#smallFrame));
    this.counters.bytesSent += payload.byteLength;
  }

  #receive(peer: Peer): void {
    if (peer.gone && !peer.socket.readable) this.#fail(lost(this.rank, peer.rank));
    else peer.socket.receive().then(peer.onMessages, peer.onReceiveError);
  }

  #waitsFor(peer: Peer): boolean {
    if (this.#resolve === null || this.#frames[peer.rank] !== null) return false;
    return this.#expected.kind !== FrameKind.BROADCAST || peer.rank === 0;
  }

  #deliver(peer: Peer, messages: Buffer[]): void {
    if (this.#failure !== null) return;
    const frame = messages[0]!;
    try {
      checkFrame(frame, peer.rank, this.rank, this.worldSize, this.#expected);
    } catch (error) {
      this.#fail(error as CollectiveError);
      return;
    }
    this.#frames[peer.rank] = frame;
    this.#missing -= 1;
    if (this.#missing > 0) return;
    if (this.#expected.kind === FrameKind.ALL_REDUCE) this.#addUp();
    const resolve = this.#resolve!;
    this.#resolve = null;
    this.#reject = null;
    resolve();
  }

  #addUp(): void {
    const floats = this.#floats;
    const own = this.#regions.get(this.#partial!)!;
    for (let rank = 0; rank < this.worldSize; rank++) {
      const frame = this.#frames[rank]!;
      if (own.encoded !== null) {
        const values = this.#decoded[rank]!;
        decode(rank === this.rank ? own.encoded : payloadEncoded(frame, floats), values, floats);
        this.#summands[rank] = values;
      } else {
        this.#summands[rank] = rank === this.rank ? this.#partial! : payloadFloats(frame, floats);
      }
      this.#frames[rank] = null;
    }
    this.#sumAsTree(this.#sum!, this.#summands, this.#floats);
  }

  /** One timer for many operations: it looks when the oldest that may still run would be late, and sleeps again. */
  #watch(delayMs: number): void {
    this.#watchdog = setTimeout(() => {
      this.#watchdog = null;
      if (this.#resolve === null || this.#failure !== null) return;
      const leftMs = this.#startedMs + this.#timeoutMs - performance.now();
      if (leftMs > 0) {
        this.#watch(Math.ceil(leftMs));
        return;
      }
      const late = this.#peers.filter((peer) => this.#waitsFor(peer)).map((peer) => peer.rank);
      this.#fail(
        new CollectiveError(
          'TIMEOUT',
          late[0] ?? null,
          `rank ${this.rank}: nothing from rank ${late.join(', ')} for ${this.#timeoutMs} ms ` +
            `(step ${this.#expected.step}, op ${this.#expected.op})`,
        ),
      );
    }, delayMs);
    // The sockets keep the process alive while something is awaited.
    this.#watchdog.unref();
  }

  #fail(error: CollectiveError): void {
    this.#failure ??= error;
    if (this.#watchdog !== null) clearTimeout(this.#watchdog);
    this.#watchdog = null;
    const reject = this.#reject;
    this.#resolve = null;
    this.#reject = null;
    reject?.(this.#failure);
  }
}

/** A received payload as floats: where it lies if aligned (always so for frames above 8 KiB), else a copy. */
function payloadFloats(frame: Buffer, floats: number): Float32Array {
  const { buffer, offset } = alignedPayload(frame);
  return new Float32Array(buffer, offset, floats);
}

function payloadEncoded(frame: Buffer, floats: number): EncodedValues {
  const { buffer, offset } = alignedPayload(frame);
  return encodedView(buffer, offset, floats);
}

function alignedPayload(frame: Buffer): { buffer: ArrayBufferLike; offset: number } {
  const offset = frame.byteOffset + HEADER_BYTES;
  if (offset % FLOAT_BYTES === 0) return { buffer: frame.buffer, offset };
  return { buffer: new Uint8Array(frame.subarray(HEADER_BYTES)).buffer, offset: 0 };
}

function lost(rank: number, peer: number, cause?: unknown): CollectiveError {
  const why = cause instanceof Error ? ` (${cause.message})` : '';
  return new CollectiveError('PEER_LOST', peer, `rank ${rank}: rank ${peer} is gone${why}`);
}
