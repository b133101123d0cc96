/**
 * The header of a GGUF file: what a model says of itself (metadata), and names, types, sizes and places of its tensors, believed only after checking.
 *
 * Layout  "GGUF" · u32 version · u64 tensors · u64 metadata entries · the entries (key, type, value) · a line a tensor (name, axes, sizes with the
 *         innermost first, type, offset) · padding to `general.alignment` · data. Strings are u64 length and bytes; little-endian throughout
 * In      a path
 * Out     GgufHeader; sizes of tensors with the outermost axis first, as everybody else writes them
 * Limits  versions 2 and 3; MAX_HEADER_BYTES, MAX_ENTRIES, MAX_TENSORS, MAX_STRING_BYTES, MAX_ARRAY_ELEMENTS over all arrays, MAX_AXES
 * Errors  ServingError CHECKPOINT_INVALID naming the file, the entry or tensor, the limit and the value
 * Source  github.com/ggml-org/ggml docs/gguf.md
 */
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { ServingError } from './errors.js';

/** The largest vocabularies (262,144 tokens) with their merges take 20 MB. */
const MAX_HEADER_BYTES = 256 * 1024 * 1024;
const MAX_ENTRIES = 4096;
const MAX_TENSORS = 65_536;
const MAX_STRING_BYTES = 16 * 1024 * 1024;
const MAX_ARRAY_ELEMENTS = 1 << 23;
const MAX_AXES = 4;
const MAX_ALIGNMENT = 1 << 20;
const DEFAULT_ALIGNMENT = 32;
const WINDOW_BYTES = 1 << 20;

export type GgufValue =
  | number
  | boolean
  | string
  | readonly number[]
  | readonly boolean[]
  | readonly string[];

export interface GgufTensor {
  name: string;
  /** ggml's number of its type. */
  type: number;
  /** Outermost axis first. */
  shape: readonly number[];
  /** From the start of the file's data. */
  offset: number;
}

export interface GgufHeader {
  path: string;
  metadata: ReadonlyMap<string, GgufValue>;
  tensors: ReadonlyMap<string, GgufTensor>;
  /** Where the data begin. */
  dataStart: number;
  /** The file's. */
  bytes: number;
  modifiedMs: number;
}

/** Metadata's; an array's elements are of one of the others. */
const TYPE = { string: 8, array: 9 } as const;
const SCALARS: Readonly<Record<number, { bytes: number; read: (at: DataView) => number | boolean }>> = {
  0: { bytes: 1, read: (at) => at.getUint8(0) },
  1: { bytes: 1, read: (at) => at.getInt8(0) },
  2: { bytes: 2, read: (at) => at.getUint16(0, true) },
  3: { bytes: 2, read: (at) => at.getInt16(0, true) },
  4: { bytes: 4, read: (at) => at.getUint32(0, true) },
  5: { bytes: 4, read: (at) => at.getInt32(0, true) },
  6: { bytes: 4, read: (at) => at.getFloat32(0, true) },
  7: { bytes: 1, read: (at) => at.getUint8(0) !== 0 },
  10: { bytes: 8, read: (at) => Number(at.getBigUint64(0, true)) },
  11: { bytes: 8, read: (at) => Number(at.getBigInt64(0, true)) },
  12: { bytes: 8, read: (at) => at.getFloat64(0, true) },
};

/** @throws ServingError CHECKPOINT_INVALID */
export function readGgufHeader(path: string): GgufHeader {
  let fd: number;
  try {
    // A pipe would wait for ever.
    if (!statSync(path).isFile()) throw wrong(path, 'not a plain file');
    fd = openSync(path, 'r');
  } catch (cause) {
    if (cause instanceof ServingError) throw cause;
    throw wrong(path, `cannot be opened (${(cause as NodeJS.ErrnoException).code ?? cause})`);
  }
  try {
    const { mtimeMs, size } = fstatSync(fd);
    return parse(new Bytes(fd, size, path), mtimeMs);
  } finally {
    closeSync(fd);
  }
}

/** Whose names are printable in a message. */
export const ggufName = (name: string): string =>
  /^[\x21-\x7e]{1,200}$/.test(name) ? name : JSON.stringify(name.slice(0, 200));

function parse(bytes: Bytes, modifiedMs: number): GgufHeader {
  const { path } = bytes;
  if (bytes.size < 24 || bytes.take(4).toString('latin1') !== 'GGUF')
    throw wrong(path, 'does not begin with "GGUF"');
  const version = bytes.uint32();
  if (version !== 2 && version !== 3) {
    const why = version > 0xffff ? ' (its bytes are big-endian)' : '';
    throw wrong(path, `is of GGUF version ${version}${why}, 2 and 3 are read`);
  }
  const tensorCount = bytes.count('tensors', MAX_TENSORS);
  const entries = bytes.count('entries of metadata', MAX_ENTRIES);
  const metadata = new Map<string, GgufValue>();
  for (let entry = 0; entry < entries; entry++) {
    const key = bytes.string('a key');
    if (metadata.has(key)) throw wrong(path, `the key ${ggufName(key)} occurs twice`);
    metadata.set(key, bytes.value(bytes.uint32(), ggufName(key)));
  }
  const tensors = new Map<string, GgufTensor>();
  for (let index = 0; index < tensorCount; index++) {
    const tensor = readTensor(bytes);
    if (tensors.has(tensor.name)) throw wrong(path, `tensor ${ggufName(tensor.name)} occurs twice`);
    tensors.set(tensor.name, tensor);
  }
  const alignment = alignmentOf(metadata, path);
  for (const { name, offset } of tensors.values()) {
    if (offset % alignment !== 0)
      throw wrong(path, `tensor ${ggufName(name)} begins at ${offset}, no multiple of ${alignment}`);
  }
  const dataStart = Math.ceil(bytes.position / alignment) * alignment;
  return { path, metadata, tensors, dataStart, bytes: bytes.size, modifiedMs };
}

function readTensor(bytes: Bytes): GgufTensor {
  const name = bytes.string('the name of a tensor');
  const label = `tensor ${ggufName(name)}`;
  const axes = bytes.uint32();
  if (axes > MAX_AXES) throw wrong(bytes.path, `${label} has ${axes} axes, the limit is ${MAX_AXES}`);
  const shape: number[] = [];
  let elements = 1;
  for (let axis = 0; axis < axes; axis++) {
    const size = bytes.uint64(`a size of ${label}`);
    elements *= size;
    if (size === 0 || !Number.isSafeInteger(elements * 32))
      throw wrong(
        bytes.path,
        `${label} has ${size} as size of an axis, or more elements than can be counted`,
      );
    shape.unshift(size);
  }
  const type = bytes.uint32();
  return { name, type, shape, offset: bytes.uint64(`the offset of ${label}`) };
}

function alignmentOf(metadata: ReadonlyMap<string, GgufValue>, path: string): number {
  const alignment = metadata.get('general.alignment') ?? DEFAULT_ALIGNMENT;
  const isPower = typeof alignment === 'number' && Number.isInteger(Math.log2(alignment));
  if (isPower && alignment >= 8 && alignment <= MAX_ALIGNMENT) return alignment;
  throw wrong(
    path,
    `general.alignment is ${JSON.stringify(alignment)?.slice(0, 80)}, expected a power of two from 8 to ${MAX_ALIGNMENT}`,
  );
}

/** The file from its start to the end of its header, each byte once. */
class Bytes {
  position = 0;
  #window = Buffer.alloc(0);
  #windowStart = 0;
  #elements = 0;

  readonly #fd: number;

  constructor(
    fd: number,
    readonly size: number,
    readonly path: string,
  ) {
    this.#fd = fd;
  }

  /** Valid until the next call. */
  take(length: number): Buffer {
    const end = this.position + length;
    if (end > this.size) throw wrong(this.path, `the file ends at ${this.size}, inside of its header`);
    if (end > MAX_HEADER_BYTES)
      throw wrong(this.path, `its header is longer than the limit of ${MAX_HEADER_BYTES} bytes`);
    if (end > this.#windowStart + this.#window.length) this.#fill(length);
    const from = this.position - this.#windowStart;
    this.position = end;
    return this.#window.subarray(from, from + length);
  }

  #fill(length: number): void {
    const bytes = Math.min(Math.max(length, WINDOW_BYTES), this.size - this.position);
    const window = Buffer.allocUnsafe(bytes);
    for (let done = 0; done < bytes; ) {
      const got = readSync(this.#fd, window, done, bytes - done, this.position + done);
      if (got === 0) throw wrong(this.path, 'the file was cut while it was read');
      done += got;
    }
    this.#window = window;
    this.#windowStart = this.position;
  }

  uint32(): number {
    return this.take(4).readUInt32LE();
  }

  uint64(what: string): number {
    const value = this.take(8).readBigUInt64LE();
    if (value <= Number.MAX_SAFE_INTEGER) return Number(value);
    throw wrong(this.path, `${what} is ${value}, more than can be counted`);
  }

  count(what: string, limit: number): number {
    const count = this.uint64(`the number of ${what}`);
    if (count > limit) throw wrong(this.path, `it claims ${count} ${what}, the limit is ${limit}`);
    return count;
  }

  string(what: string): string {
    const length = this.uint64(`the length of ${what}`);
    if (length > MAX_STRING_BYTES)
      throw wrong(this.path, `${what} claims ${length} bytes, the limit is ${MAX_STRING_BYTES}`);
    return this.take(length).toString('utf8');
  }

  value(type: number, key: string): GgufValue {
    if (type === TYPE.string) return this.string(key);
    if (type !== TYPE.array) return this.#scalar(type, key);
    const elementType = this.uint32();
    const count = this.uint64(`the length of ${key}`);
    this.#elements += count;
    if (this.#elements > MAX_ARRAY_ELEMENTS) {
      throw wrong(
        this.path,
        `${key} claims ${count} elements, the limit over all arrays is ${MAX_ARRAY_ELEMENTS}`,
      );
    }
    const values: unknown[] = [];
    for (let index = 0; index < count; index++) {
      values.push(elementType === TYPE.string ? this.string(key) : this.#scalar(elementType, key));
    }
    return values as readonly number[];
  }

  #scalar(type: number, key: string): number | boolean {
    const scalar = SCALARS[type];
    if (scalar === undefined) throw wrong(this.path, `${key} is of the unknown type ${type}`);
    const { buffer, byteOffset } = this.take(scalar.bytes);
    return scalar.read(new DataView(buffer, byteOffset, scalar.bytes));
  }
}

function wrong(path: string, what: string): ServingError {
  return new ServingError('CHECKPOINT_INVALID', `${path}: ${what}`);
}
