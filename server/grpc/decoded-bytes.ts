/**
 * What a message will take once it is objects: two bytes of the wire may be an object with every field of its type.
 *
 * In      the type that a call takes; a message's bytes, whatever they are
 * Out     the larger of their number and what its parts take: a message in it or an entry of a map MESSAGE_BYTES, a text or bytes
 *         TEXT_BYTES, a number by its kind
 * Limits  MAX_DEPTH messages in each other; what is not of the wire's form ends the count: whoever decodes it says so
 * Source  protobuf's wire format; sizes measured with protobufjs 7.6 and Node 22, whole objects with their defaults
 * Pure
 */
import protobuf from 'protobufjs';

const MESSAGE_BYTES = 512;
const TEXT_BYTES = 128;
const SCALAR_BYTES = 16;
/** An element of a packed list takes so much: what is 64 bits wide becomes a text. Floats are about as long there as here. */
const LONG_BYTES = 32;
const SHORT_BYTES = 4;
const MAX_DEPTH = 16;
const TEXTS = ['string', 'bytes'];
const LONGS = ['int64', 'uint64', 'sint64'];
const SHORTS = ['int32', 'uint32', 'sint32', 'bool'];

/** What is known of a field by its number. */
interface FieldShape {
  readonly tagBytes: number;
  /** null: it is no message. */
  readonly message: MessageShape | null;
  /** For an element, where it is a list of numbers that end with a byte below 128. */
  readonly packedBytes: number;
}

export type MessageShape = ReadonlyMap<number, FieldShape>;

const UNKNOWN: FieldShape = { tagBytes: SCALAR_BYTES, message: null, packedBytes: 0 };

/** @param known of the types that are looked at already: a type may hold itself */
export function messageShape(type: protobuf.Type, known = new Map<string, MessageShape>()): MessageShape {
  const before = known.get(type.fullName);
  if (before !== undefined) return before;
  const shape = new Map<number, FieldShape>();
  known.set(type.fullName, shape);
  for (const field of type.fieldsArray) shape.set(field.id, fieldShape(field.resolve(), known));
  return shape;
}

function fieldShape(field: protobuf.Field, known: Map<string, MessageShape>): FieldShape {
  const { resolvedType, type } = field;
  const inner = resolvedType instanceof protobuf.Type ? messageShape(resolvedType, known) : null;
  const own: FieldShape = {
    tagBytes: inner !== null ? MESSAGE_BYTES : TEXTS.includes(type) ? TEXT_BYTES : SCALAR_BYTES,
    message: inner,
    packedBytes: LONGS.includes(type) ? LONG_BYTES : SHORTS.includes(type) ? SHORT_BYTES : 0,
  };
  // An entry is a message of a key and a value.
  if (field instanceof protobuf.MapField)
    return { tagBytes: MESSAGE_BYTES, message: new Map([[2, own]]), packedBytes: 0 };
  return own;
}

export function decodedBytes(shape: MessageShape, bytes: Uint8Array): number {
  return Math.max(bytes.length, partsIn(shape, bytes, 0));
}

function partsIn(shape: MessageShape, bytes: Uint8Array, depth: number): number {
  if (depth > MAX_DEPTH) return 0;
  let taken = 0;
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let factor = 1; at < bytes.length; factor *= 128) {
      const byte = bytes[at++]!;
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
    return Number.POSITIVE_INFINITY;
  };
  while (at < bytes.length) {
    const tag = varint();
    const field = shape.get(Math.floor(tag / 8)) ?? UNKNOWN;
    taken += field.tagBytes;
    const kind = tag % 8;
    if (kind === 0) varint();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else if (kind === 2) {
      const length = varint();
      const part = bytes.subarray(at, at + length);
      at += length;
      if (field.message !== null) taken += partsIn(field.message, part, depth + 1);
      else if (field.packedBytes > 0) taken += field.packedBytes * countOf(part);
    } else return taken;
  }
  return taken;
}

/** Numbers of a packed list. */
function countOf(packed: Uint8Array): number {
  let count = 0;
  for (const byte of packed) if (byte < 128) count++;
  return count;
}
