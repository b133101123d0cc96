/**
 * Values between processes, as frames: a length, JSON, and blocks of bytes that the JSON names; tensors are NumPy's arrays.
 *
 * Form    4 bytes little-endian: length of the JSON; the JSON, whose `blocks` are the lengths of what follows; the blocks
 * In      {"$block": n} in place of bytes, {"$npy": n} in place of a tensor
 * Limits  MAX_JSON_BYTES, MAX_BLOCK_BYTES a block, MAX_BLOCKS
 * Errors  ServingError BAD_REQUEST
 * Source  NumPy's format 1.0 (NEP 1): magic, version, a header of Python's literal, data in C's order
 */
import { ServingError } from '../proto/errors.js';
import {
  ARRAYS,
  type Json,
  Tensor,
  type TensorKind,
  type Value,
  valueOfJson,
  valueToJson,
} from './pipeline-value.js';

const MAX_JSON_BYTES = 64 * 1024 * 1024;
const MAX_BLOCK_BYTES = 1024 * 1024 * 1024;
const MAX_BLOCKS = 65_536;
const MAGIC = Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0]);
const HEADER_MULTIPLE = 64;

const DESCRIPTIONS: Readonly<Record<TensorKind, string>> = {
  bool: '|b1',
  uint8: '|u1',
  int8: '|i1',
  int32: '<i4',
  int64: '<i8',
  float32: '<f4',
  float64: '<f8',
};

export type Frame = { readonly [key: string]: Value };

export function npyOf({ data, kind, shape }: Tensor): Buffer {
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`;
  const literal = `{'descr': '${DESCRIPTIONS[kind]}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const unpadded = MAGIC.length + 2 + literal.length + 1;
  const header = `${literal}${' '.repeat((HEADER_MULTIPLE - (unpadded % HEADER_MULTIPLE)) % HEADER_MULTIPLE)}\n`;
  const length = Buffer.alloc(2);
  length.writeUInt16LE(header.length);
  return Buffer.concat([
    MAGIC,
    length,
    Buffer.from(header, 'latin1'),
    Buffer.from(data.buffer, data.byteOffset, data.byteLength),
  ]);
}

/** @throws ServingError */
export function tensorOfNpy(bytes: Buffer): Tensor {
  const headerEnd = bytes.length < 10 ? 0 : 10 + bytes.readUInt16LE(8);
  const header = bytes.toString('latin1', 10, headerEnd);
  const kind = (Object.keys(DESCRIPTIONS) as TensorKind[]).find((one) =>
    header.includes(`'descr': '${DESCRIPTIONS[one]}'`),
  );
  const shape = /'shape': \(([\d, ]*)\)/
    .exec(header)?.[1]
    ?.split(',')
    .filter((one) => one.trim() !== '')
    .map(Number);
  if (!bytes.subarray(0, 8).equals(MAGIC) || kind === undefined || shape === undefined)
    throw bad('an array is not in NumPy format 1.0, or of a kind that pipelines do not know');
  if (!header.includes("'fortran_order': False")) throw bad("an array is in Fortran's order");
  // A copy, which begins where any kind of number may.
  const data = new Uint8Array(bytes.subarray(headerEnd));
  const Typed = ARRAYS[kind];
  if (data.byteLength % Typed.BYTES_PER_ELEMENT !== 0) throw bad('an array ends within an element');
  return new Tensor(kind, shape, new Typed(data.buffer, 0, data.byteLength / Typed.BYTES_PER_ELEMENT));
}

export function frameOf(fields: Frame): Buffer {
  const blocks: Buffer[] = [];
  const keep = (mark: string, block: Buffer): Json => ({ [mark]: blocks.push(block) - 1 });
  const packed = (value: Value): Json => {
    if (value instanceof Tensor) return keep('$npy', npyOf(value));
    if (value instanceof Uint8Array)
      return keep('$block', Buffer.from(value.buffer, value.byteOffset, value.byteLength));
    if (Array.isArray(value)) return value.map(packed);
    if (typeof value === 'object' && value !== null)
      return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, packed(one as Value)]));
    return valueToJson(value);
  };
  const body = packed(fields) as { [key: string]: Json };
  const json = Buffer.from(JSON.stringify({ ...body, blocks: blocks.map(({ length }) => length) }));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(json.length);
  return Buffer.concat([length, json, ...blocks]);
}

/** Frames of a stream of bytes, as they are complete. @throws ServingError */
export async function* framesIn(stream: AsyncIterable<Uint8Array>): AsyncGenerator<Frame> {
  let pieces: Buffer[] = [];
  let held = 0;
  let wanted = 4;
  let read: ((bytes: Buffer) => Frame | null) | null = null;
  const start = (bytes: Buffer): null => {
    wanted = bytes.readUInt32LE(0);
    if (wanted > MAX_JSON_BYTES)
      throw bad(`a frame's JSON has ${wanted} bytes, of at most ${MAX_JSON_BYTES}`);
    read = head;
    return null;
  };
  const head = (bytes: Buffer): Frame | null => {
    const { blocks = [], ...fields } = JSON.parse(bytes.toString('utf8')) as { blocks?: number[] };
    const isRight = (one: unknown): boolean =>
      Number.isInteger(one) && (one as number) >= 0 && (one as number) <= MAX_BLOCK_BYTES;
    if (!Array.isArray(blocks) || blocks.length > MAX_BLOCKS || !blocks.every(isRight))
      throw bad('blocks of a frame must be lengths of bytes');
    const finish = (content: Buffer): Frame => {
      wanted = 4;
      read = start;
      let at = 0;
      const parts = blocks.map((length) => {
        at += length;
        return content.subarray(at - length, at);
      });
      return unpacked(fields, parts) as Frame;
    };
    wanted = blocks.reduce((sum, one) => sum + one, 0);
    if (wanted === 0) return finish(Buffer.alloc(0));
    read = finish;
    return null;
  };
  read = start;
  for await (const piece of stream) {
    pieces.push(Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength));
    held += piece.byteLength;
    while (held >= wanted) {
      const all = Buffer.concat(pieces);
      const bytes = all.subarray(0, wanted);
      pieces = [all.subarray(wanted)];
      held -= bytes.length;
      const frame: Frame | null = read(bytes);
      if (frame !== null) yield frame;
    }
  }
  if (held > 0) throw bad('the stream ends within a frame');
}

function unpacked(json: unknown, blocks: readonly Buffer[]): Value {
  if (Array.isArray(json)) return json.map((one) => unpacked(one, blocks));
  if (typeof json !== 'object' || json === null) return json as Value;
  const { $block, $npy, $number } = json as { $block?: number; $npy?: number; $number?: string };
  const block = blocks[$block ?? $npy ?? -1];
  if ($npy !== undefined && block !== undefined) return tensorOfNpy(block);
  if ($block !== undefined && block !== undefined) return new Uint8Array(block);
  if ($number !== undefined) return valueOfJson(json);
  return Object.fromEntries(Object.entries(json).map(([key, one]) => [key, unpacked(one, blocks)]));
}

const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);
