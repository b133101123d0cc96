/**
 * Protocol buffers as they lie in a message: fields one after the other, to be looked at, copied and put together again.
 *
 * In      bytes of a message, all of it
 * Out     its fields; fields of numbers, texts and messages as bytes
 * Why     a reader of whole messages takes a millisecond for a graph of some nodes, in a process that has just begun
 * Limits  numbers below 2^53
 * Errors  an Error where the bytes end within a field, or begin a group
 * Source  protobuf.dev/programming-guides/encoding
 */
import assert from 'node:assert/strict';

export interface WireField {
  readonly number: number;
  /** The whole field, to be copied. */
  readonly bytes: Buffer;
  /** What stands in a field that has a length; else empty. */
  readonly value: Buffer;
  /** What a field of a number says; else 0. */
  readonly varint: number;
}

const [VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES] = [0, 1, 2, 5];
const NOTHING = Buffer.alloc(0);

export function wireFields(message: Buffer): WireField[] {
  const fields: WireField[] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = message[at++];
      assert(byte !== undefined, 'a message ends within a number');
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const start = at;
    const tag = varint();
    const kind = tag % 8;
    let value: Buffer = NOTHING;
    let number = 0;
    if (kind === VARINT) number = varint();
    else if (kind === LENGTH) {
      const length = varint();
      value = message.subarray(at, at + length);
      assert.equal(value.length, length, 'a message ends within a field');
      at += length;
    } else {
      assert(kind === EIGHT_BYTES || kind === FOUR_BYTES, `a field of kind ${kind}`);
      at += kind === EIGHT_BYTES ? 8 : 4;
    }
    fields.push({ number: Math.floor(tag / 8), bytes: message.subarray(start, at), value, varint: number });
  }
  return fields;
}

export function varintField(number: number, value: number): Buffer {
  return Buffer.from([...varintBytes(number * 8 + VARINT), ...varintBytes(value)]);
}

/** A text, or a message of its parts one after the other. */
export function lengthField(number: number, value: string | readonly Uint8Array[]): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value) : Buffer.concat(value);
  return Buffer.concat([
    Buffer.from([...varintBytes(number * 8 + LENGTH), ...varintBytes(bytes.length)]),
    bytes,
  ]);
}

function varintBytes(value: number): number[] {
  const bytes: number[] = [];
  let left = value;
  for (; left > 127; left = Math.floor(left / 128)) bytes.push((left % 128) + 128);
  return [...bytes, left];
}
