/**
 * Frames between two ranks: a header of 64 bytes, then the payload.
 *
 * Header  16 little-endian words: magic, version, kind, sender, world size, step, op, type of the payload, its bytes; zeros
 * Pairs   the sender writes and the receiver checks every word: a peer at another operation is a bug, and is refused as
 *         OUT_OF_STEP with both sides named, never added to a sum
 * Limits  MAX_FRAME_BYTES
 */
import { HEADER_BYTES } from './aligned-memory.js';
import { CollectiveError, type CollectiveTag } from './collective.js';

const MAGIC = 0x5348_4152; // 'RAHS' in memory
const VERSION = 1;

/** A frame above this is refused by the socket, before memory is taken for it: 1 GiB, 65,536 tokens of 4,096 floats. */
export const MAX_FRAME_BYTES = 2 ** 30;

export const FrameKind = { HELLO: 1, ALL_REDUCE: 2, GATHER: 3, BROADCAST: 4 } as const;
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];

const KIND_NAMES = ['unknown operation', 'hello', 'all-reduce', 'gather', 'broadcast'];

const PayloadType = { BYTES: 0, FLOAT32: 1 } as const;

/** Word positions. */
const Word = {
  MAGIC: 0,
  VERSION: 1,
  KIND: 2,
  SENDER: 3,
  WORLD: 4,
  STEP: 5,
  OP: 6,
  TYPE: 7,
  BYTES: 8,
} as const;

export interface Expectation {
  kind: FrameKind;
  step: number;
  op: number;
  /** The payload's; null: any. */
  bytes: number | null;
}

/** Fill the words that never change on one rank. */
export function initHeader(header: Int32Array, rank: number, worldSize: number): void {
  header.fill(0);
  header[Word.MAGIC] = MAGIC;
  header[Word.VERSION] = VERSION;
  header[Word.SENDER] = rank;
  header[Word.WORLD] = worldSize;
}

/** Fill the words of one operation. */
export function setHeader(header: Int32Array, kind: FrameKind, tag: CollectiveTag, bytes: number): void {
  header[Word.KIND] = kind;
  header[Word.STEP] = tag.step;
  header[Word.OP] = tag.op;
  header[Word.TYPE] = kind === FrameKind.ALL_REDUCE ? PayloadType.FLOAT32 : PayloadType.BYTES;
  header[Word.BYTES] = bytes;
}

const word = (frame: Buffer, position: number): number => frame.readUInt32LE(position * 4);

/**
 * Check a received frame against what this rank waits for.
 *
 * @throws CollectiveError OUT_OF_STEP
 */
export function checkFrame(
  frame: Buffer,
  sender: number,
  rank: number,
  worldSize: number,
  expected: Expectation,
): void {
  const whole =
    frame.length >= HEADER_BYTES &&
    word(frame, Word.MAGIC) === MAGIC &&
    word(frame, Word.BYTES) === frame.length - HEADER_BYTES;
  if (!whole) {
    throw new CollectiveError(
      'OUT_OF_STEP',
      sender,
      `rank ${rank}: ${frame.length} bytes from rank ${sender} are no whole frame`,
    );
  }
  const type = expected.kind === FrameKind.ALL_REDUCE ? PayloadType.FLOAT32 : PayloadType.BYTES;
  const matches =
    word(frame, Word.VERSION) === VERSION &&
    word(frame, Word.KIND) === expected.kind &&
    word(frame, Word.SENDER) === sender &&
    word(frame, Word.WORLD) === worldSize &&
    word(frame, Word.STEP) === expected.step >>> 0 &&
    word(frame, Word.OP) === expected.op >>> 0 &&
    word(frame, Word.TYPE) === type &&
    (expected.bytes === null || word(frame, Word.BYTES) === expected.bytes);
  if (matches) return;
  const bytes = expected.bytes === null ? '' : `, ${expected.bytes} bytes`;
  throw new CollectiveError(
    'OUT_OF_STEP',
    sender,
    `rank ${rank} of ${worldSize} (frame version ${VERSION}) is at ${KIND_NAMES[expected.kind]} of step ${expected.step}, ` +
      `op ${expected.op}${bytes}; rank ${word(frame, Word.SENDER)} of ${word(frame, Word.WORLD)} ` +
      `(frame version ${word(frame, Word.VERSION)}), expected to be rank ${sender}, sent ` +
      `${KIND_NAMES[word(frame, Word.KIND)] ?? KIND_NAMES[0]} of step ${word(frame, Word.STEP)}, ` +
      `op ${word(frame, Word.OP)}, ${word(frame, Word.BYTES)} bytes`,
  );
}

/** A whole frame in memory of its own, for messages that are not sent from where they lie. */
export function copyIntoFrame(header: Int32Array, payload: Uint8Array, into?: Buffer): Buffer {
  const length = HEADER_BYTES + payload.byteLength;
  const frame = into !== undefined && into.length >= length ? into : Buffer.allocUnsafeSlow(length);
  frame.set(new Uint8Array(header.buffer, header.byteOffset, HEADER_BYTES), 0);
  frame.set(payload, HEADER_BYTES);
  return frame.length === length ? frame : frame.subarray(0, length);
}
