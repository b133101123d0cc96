/**
 * A GGUF file as a checkpoint: its tensors under the names, in the shapes and with the numbers that Hugging Face's files have.
 *
 * In      the headers of a GGUF model of a family of gguf-families.ts
 * Out     TensorSource. Weights in blocks are float32, the same bits as ggml gives; Llama's query and key rows are put back into the order
 *         that they had before llama.cpp's converter, Gemma's norms are the ones without 1 added, a stack of experts is a tensor for each
 * Limits  memory: the rows asked for, and their bytes; of a reordered tensor whole heads
 * Errors  ServingError CHECKPOINT_INVALID naming file and tensor: a type that is not read, a place outside of the file or inside of another
 *         tensor, rows that are no whole blocks, a file that was cut after it was opened
 */
import assert from 'node:assert/strict';
import { closeSync, readSync } from 'node:fs';
import path from 'node:path';
import { type GgufHeader, type GgufTensor, ggufName } from '../../proto/gguf-header.js';
import { widenBfloat16, widenFloat16 } from './float-widening.js';
import { decodeBlocks, type GgmlType, ggmlType, ggmlTypeNames } from './ggml-blocks.js';
import { EXPERT, type GgufPlace, placesOf } from './gguf-families.js';
import { latentSource } from './gguf-latents.js';
import type { GgufParts } from './gguf-parts.js';
import { joinedSource } from './joined-source.js';
import { checkpointError, errorCode, openPlainFile } from './json-file.js';
import {
  type CodedInfo,
  type CodedRows,
  checkRowRange,
  type Halves,
  requireTensor,
  rowShape,
  type SourceFile,
  type StoredType,
  type TensorInfo,
  type TensorSource,
} from './tensor-source.js';

/** Types that are floats as they stand, by ggml's number. */
const PLAIN: ReadonlyMap<number, StoredType> = new Map([
  [0, 'float32'],
  [1, 'float16'],
  [30, 'bfloat16'],
]);

const FLOAT32 = 0;
/** Weights that share a scale in every type whose codes are handed on. */
const CODED_GROUP = 32;
const MAX_VECTOR = 65_536;
/** Published models have fewer. */
const MAX_EXPERTS = 1024;
/** Kimi K2 has 70,000. */
const MAX_PLACED = 1 << 18;

interface Stored extends GgufPlace {
  tensor: GgufTensor;
  type: GgmlType;
  plain: StoredType | null;
  /** One row's of the file. */
  rowBytes: number;
}

/** @throws ServingError CHECKPOINT_INVALID */
export function openGguf({ parts, whole }: GgufParts): TensorSource {
  const places = placesOf(whole);
  const names = new Set<string>();
  const placed = parts.map((part) => placedIn(part, places, names));
  const opened: TensorSource[] = [];
  try {
    for (const [index, part] of parts.entries()) {
      const { fd } = openPlainFile(part.path);
      opened.push(new GgufSource(part, fd, placed[index] ?? []));
    }
  } catch (error) {
    for (const source of opened) source.close();
    throw error;
  }
  return latentSource(joinedSource(opened), whole.path);
}

/** @param names of the parts before it; its own are added */
function placedIn(
  header: GgufHeader,
  places: ReadonlyMap<string, GgufPlace | null>,
  names: Set<string>,
): Stored[] {
  const { bytes, dataStart, path: file, tensors } = header;
  const stored = [...tensors.values()].map((tensor) => checkedTensor(file, tensor));
  checkRanges(file, stored, bytes - dataStart);
  return stored.flatMap((entry) => {
    const own = placedTensors(file, entry, places.get(entry.tensor.name));
    for (const { name } of own) {
      if (names.has(name)) throw checkpointError(file, `a second tensor stands for ${ggufName(name)}`);
      names.add(name);
    }
    if (names.size > MAX_PLACED)
      throw checkpointError(file, `more than ${MAX_PLACED} tensors, experts by themselves`);
    return own;
  });
}

/** @param place null: read with the configuration; absent: a name that no family has stays, and whoever checks the tensors refuses it */
function placedTensors(
  file: string,
  entry: Omit<Stored, keyof GgufPlace>,
  place: GgufPlace | null | undefined,
): Stored[] {
  if (place === null) return [];
  const { tensor, type } = entry;
  const own = place ?? { name: tensor.name, heads: null, addend: 0 };
  if (own.isRow && tensor.shape.length === 1) {
    const [columns = 1] = tensor.shape;
    return [
      {
        ...entry,
        ...own,
        tensor: { ...tensor, shape: [1, columns] },
        rowBytes: (columns / type.weights) * type.bytes,
      },
    ];
  }
  if (!own.name.includes(EXPERT) || tensor.shape.length !== 3) return [{ ...entry, ...own }];
  const [count = 0, ...shape] = tensor.shape;
  if (count > MAX_EXPERTS) {
    const label = `${file}: tensor ${ggufName(tensor.name)}`;
    throw checkpointError(label, `has ${count} experts, the limit is ${MAX_EXPERTS}`);
  }
  const rowBytes = ((shape[1] ?? 0) / type.weights) * type.bytes;
  return Array.from({ length: count }, (_, expert) => ({
    ...entry,
    ...own,
    name: own.name.replace(EXPERT, String(expert)),
    tensor: { ...tensor, shape, offset: tensor.offset + expert * entry.rowBytes },
    rowBytes,
  }));
}

/** A small vector of float32, of the part that has it. @throws ServingError CHECKPOINT_INVALID */
export function readGgufVector(parts: readonly GgufHeader[], name: string): Float32Array {
  const header = parts.find(({ tensors }) => tensors.has(name));
  const file = header?.path ?? parts[0]?.path ?? '';
  const tensor = header?.tensors.get(name);
  const label = `${file}: tensor ${name}`;
  if (
    header === undefined ||
    tensor?.type !== FLOAT32 ||
    tensor.shape.length !== 1 ||
    tensor.shape[0]! > MAX_VECTOR
  ) {
    throw checkpointError(label, `is missing, or no F32 of one axis of at most ${MAX_VECTOR}`);
  }
  const { bytes, fd } = openPlainFile(file);
  try {
    const position = header.dataStart + tensor.offset;
    const length = 4 * tensor.shape[0]!;
    if (position + length > bytes) throw checkpointError(label, `its data ends behind the file`);
    return new Float32Array(readFully(fd, position, length, label).buffer);
  } finally {
    closeSync(fd);
  }
}

function checkedTensor(file: string, tensor: GgufTensor): Omit<Stored, keyof GgufPlace> {
  const label = `${file}: tensor ${ggufName(tensor.name)}`;
  const type = ggmlType(tensor.type);
  if (type === undefined) {
    throw checkpointError(
      label,
      `is of ggml's type ${tensor.type}, which is not read (${ggmlTypeNames()} are)`,
    );
  }
  const columns = tensor.shape.at(-1) ?? 1;
  if (columns % type.weights !== 0) {
    throw checkpointError(
      label,
      `has ${columns} columns, no multiple of the ${type.weights} of a block of ${type.name}`,
    );
  }
  const { rowElements } = rowShape(tensor.shape);
  const rowBytes = (rowElements / type.weights) * type.bytes;
  return { tensor, type, plain: PLAIN.get(tensor.type) ?? null, rowBytes };
}

const bytesOf = ({ tensor, rowBytes, type }: Pick<Stored, 'tensor' | 'rowBytes' | 'type'>): number =>
  tensor.shape.length > 1
    ? tensor.shape[0]! * rowBytes
    : ((tensor.shape[0] ?? 1) / type.weights) * type.bytes;

/** Each inside of the file, none inside of another. */
function checkRanges(
  file: string,
  stored: readonly Omit<Stored, keyof GgufPlace>[],
  dataBytes: number,
): void {
  let end = 0;
  let before = '';
  for (const entry of [...stored].sort((a, b) => a.tensor.offset - b.tensor.offset)) {
    const { name, offset } = entry.tensor;
    const label = `${file}: tensor ${ggufName(name)}`;
    if (offset < end)
      throw checkpointError(label, `its data begins at ${offset}, inside of ${before}, which ends at ${end}`);
    end = offset + bytesOf(entry);
    before = ggufName(name);
    if (end > dataBytes) {
      throw checkpointError(
        label,
        `its data ends at byte ${end}, but the file holds ${dataBytes} bytes of data`,
      );
    }
  }
}

class GgufSource implements TensorSource {
  readonly tensors = new Map<string, TensorInfo>();
  readonly files: readonly SourceFile[];
  readonly coded = new Map<string, CodedInfo>();
  readonly #file: string;
  readonly #fd: number;
  readonly #dataStart: number;
  readonly #stored = new Map<string, Stored>();
  #open = true;

  constructor(
    { bytes, dataStart, modifiedMs, path: file }: GgufHeader,
    fd: number,
    tensors: readonly Stored[],
  ) {
    this.#file = file;
    this.#fd = fd;
    this.#dataStart = dataStart;
    this.files = [{ path: path.basename(file), bytes, modifiedMs }];
    for (const entry of tensors) {
      const { addend, name, plain } = entry;
      const { shape } = entry.tensor;
      this.#stored.set(name, entry);
      const type = addend === 0 ? (plain ?? 'float32') : 'float32';
      if (entry.type.codes !== undefined && shape.length === 2) {
        const { anyZero, bits } = entry.type.codes;
        this.coded.set(name, { groupSize: CODED_GROUP, isContiguous: true, bits, anyZero });
      }
      this.tensors.set(name, { name, type, shape });
    }
  }

  readFloat32(name: string, rowStart: number, rowEnd: number, into?: Float32Array): Float32Array {
    const elements = checkRowRange(requireTensor(this, name), rowStart, rowEnd, into);
    const values = into === undefined ? new Float32Array(elements) : into.subarray(0, elements);
    const stored = this.#of(name);
    this.#decode(stored, this.#rows(stored, rowStart, rowEnd), rowStart, values);
    if (stored.addend !== 0) {
      for (let index = 0; index < values.length; index++) values[index]! += stored.addend;
    }
    return values;
  }

  readHalves(name: string, rowStart: number, rowEnd: number, into: Uint16Array): Halves | null {
    const stored = this.#of(name);
    const { addend, plain } = stored;
    if (plain === null || plain === 'float32' || addend !== 0) return null;
    const values = into.subarray(0, checkRowRange(requireTensor(this, name), rowStart, rowEnd, into));
    new Uint8Array(values.buffer, values.byteOffset, values.byteLength).set(
      this.#rows(stored, rowStart, rowEnd),
    );
    return { type: plain, values };
  }

  readBytes(name: string, rowStart: number, rowEnd: number): Uint8Array {
    const stored = this.#of(name);
    if (stored.plain === null || stored.addend !== 0) {
      return new Uint8Array(this.readFloat32(name, rowStart, rowEnd).buffer);
    }
    checkRowRange(requireTensor(this, name), rowStart, rowEnd, undefined);
    return this.#rows(stored, rowStart, rowEnd);
  }

  readCodes(name: string, rowStart: number, rowEnd: number): CodedRows {
    const stored = this.#of(name);
    const { tensor, type } = stored;
    assert(type.codes, `${name} is not in codes`);
    const elements = checkRowRange(requireTensor(this, name), rowStart, rowEnd, undefined);
    const { anyZero, bits } = type.codes;
    const groups = elements / CODED_GROUP;
    const scales = new Float32Array(groups);
    const zeroPoints = anyZero ? new Float32Array(groups) : new Uint8Array(groups);
    const packed = new Uint8Array((elements * bits) / 8);
    const bytes = this.#rows(stored, rowStart, rowEnd);
    const packedBytes = (type.weights * bits) / 8;
    for (let block = 0; block < elements / type.weights; block++) {
      const group = (block * type.weights) / CODED_GROUP;
      type.codes.read(bytes, block * type.bytes, packed, block * packedBytes, { scales, zeroPoints }, group);
    }
    assert.equal(tensor.shape.length, 2, name);
    return { packed, scales, zeroPoints };
  }

  close(): void {
    if (this.#open) closeSync(this.#fd);
    this.#open = false;
  }

  #of(name: string): Stored {
    const stored = this.#stored.get(name);
    assert(stored, name);
    return stored;
  }

  /** @param rowStart of the rows, where a vector's elements may begin inside of a block */
  #decode({ plain, tensor, type }: Stored, bytes: Uint8Array, rowStart: number, values: Float32Array): void {
    if (plain !== null) {
      const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
      const aligned = bytes.slice().buffer;
      if (plain === 'float32') bits.set(new Uint32Array(aligned));
      else (plain === 'float16' ? widenFloat16 : widenBfloat16)(new Uint16Array(aligned), bits);
      return;
    }
    if (tensor.shape.length > 1) {
      decodeBlocks(type, bytes, values);
      return;
    }
    const whole = new Float32Array((bytes.length / type.bytes) * type.weights);
    decodeBlocks(type, bytes, whole);
    const from = rowStart % type.weights;
    values.set(whole.subarray(from, from + values.length));
  }

  /** Bytes of rows in the order of Hugging Face's file; of a vector whole blocks. */
  #rows(stored: Stored, rowStart: number, rowEnd: number): Uint8Array {
    const { heads, plain, rowBytes, tensor, type } = stored;
    if (tensor.shape.length <= 1 && plain === null) {
      const first = Math.floor(rowStart / type.weights);
      const blocks = Math.ceil(rowEnd / type.weights) - first;
      return this.#read(stored, first * type.bytes, blocks * type.bytes);
    }
    if (heads === null) return this.#read(stored, rowStart * rowBytes, (rowEnd - rowStart) * rowBytes);
    // Row 2·i + p of a head was row p·half + i.
    const headRows = (tensor.shape[0] ?? 1) / heads;
    const firstHead = Math.floor(rowStart / headRows);
    const lastHead = Math.ceil(rowEnd / headRows);
    const from = firstHead * headRows;
    const whole = this.#read(stored, from * rowBytes, (lastHead - firstHead) * headRows * rowBytes);
    const bytes = new Uint8Array((rowEnd - rowStart) * rowBytes);
    for (let row = rowStart; row < rowEnd; row++) {
      const inHead = row % headRows;
      const turned = 2 * (inHead % (headRows / 2)) + Math.floor(inHead / (headRows / 2));
      const at = (row - inHead + turned - from) * rowBytes;
      bytes.set(whole.subarray(at, at + rowBytes), (row - rowStart) * rowBytes);
    }
    return bytes;
  }

  #read({ tensor }: Stored, offset: number, length: number): Uint8Array {
    assert(this.#open, 'read from a closed checkpoint');
    const label = `${this.#file}: tensor ${ggufName(tensor.name)}`;
    return readFully(this.#fd, this.#dataStart + tensor.offset + offset, length, label);
  }
}

function readFully(fd: number, position: number, length: number, label: string): Uint8Array {
  const into = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    let got: number;
    try {
      got = readSync(fd, into, done, Math.min(length - done, 1 << 30), position + done);
    } catch (cause) {
      throw checkpointError(label, `cannot be read (${errorCode(cause)})`, cause);
    }
    if (got === 0) throw checkpointError(label, 'the file was cut while it was read');
    done += got;
  }
  return into;
}
