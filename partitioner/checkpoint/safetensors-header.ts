/**
 * The header of a safetensors file: names, types, shapes and places of its tensors, believed only after checking.
 *
 * A file is: u64 little-endian header length n · n bytes of JSON · data. The JSON maps a tensor's name to
 * `{dtype, shape, data_offsets: [start, end)}`, offsets counted from the start of the data; `__metadata__` maps strings to
 * strings. Tensors lie one after the other: no gap, no overlap, and the last one ends with the file.
 *
 * In      header bytes, number of data bytes in the file
 * Out     entries by name
 * Limits  MAX_TENSOR_AXES; the header's own length is limited by the caller, before it is read
 * Errors  ServingError CHECKPOINT_INVALID naming file, tensor, the limit and the value
 * Pure    no file is touched
 * Source  github.com/huggingface/safetensors, README "Format"
 */
import { checkpointError, isJsonObject, parseJsonObject, printableName } from './json-file.js';
import { STORED_TYPE_BYTES, type StoredType } from './tensor-source.js';

export const MAX_TENSOR_AXES = 8;

export interface HeaderEntry {
  name: string;
  /** As written; only those of READABLE_TYPES can be read. */
  dtype: string;
  shape: readonly number[];
  /** Bytes [start, end) of the file's data. */
  start: number;
  end: number;
}

/** Types that can be read, by their name in a header. */
export const READABLE_TYPES: ReadonlyMap<string, StoredType> = new Map([
  ['F32', 'float32'],
  ['F16', 'float16'],
  ['BF16', 'bfloat16'],
]);

/** Bits of one element of the format's other types: their sizes are checked though nobody reads them. */
const OTHER_TYPE_BITS: ReadonlyMap<string, number> = new Map([
  ['BOOL', 8],
  ['F4', 4],
  ['F6_E2M3', 6],
  ['F6_E3M2', 6],
  ['U8', 8],
  ['I8', 8],
  ['F8_E5M2', 8],
  ['F8_E4M3', 8],
  ['F8_E8M0', 8],
  ['F8_E4M3FNUZ', 8],
  ['F8_E5M2FNUZ', 8],
  ['I16', 16],
  ['U16', 16],
  ['I32', 32],
  ['U32', 32],
  ['F64', 64],
  ['I64', 64],
  ['U64', 64],
  ['C64', 64],
]);

/**
 * @param header the JSON, without the length before it
 * @param dataBytes bytes of the file after the header
 * @param where file, for messages
 */
export function parseSafetensorsHeader(
  header: Uint8Array,
  dataBytes: number,
  where: string,
): Map<string, HeaderEntry> {
  if (header[0] !== 0x7b) throw checkpointError(where, 'the header does not begin with {');
  const object = parseJsonObject(header, where);
  const entries = new Map<string, HeaderEntry>();
  for (const [name, value] of Object.entries(object)) {
    if (name === '__metadata__') checkMetadata(value, where);
    else entries.set(name, readEntry(name, value, dataBytes, where));
  }
  checkContiguous([...entries.values()], dataBytes, where);
  return entries;
}

/** `FILE: tensor NAME`, the name made printable and cut. */
export function tensorLabel(where: string, name: string): string {
  return `${where}: tensor ${printableName(name)}`;
}

function checkMetadata(value: unknown, where: string): void {
  if (!isJsonObject(value) || !Object.values(value).every((text) => typeof text === 'string')) {
    throw checkpointError(where, '__metadata__ is not an object of strings');
  }
}

function readEntry(name: string, value: unknown, dataBytes: number, where: string): HeaderEntry {
  const label = tensorLabel(where, name);
  if (!isJsonObject(value)) throw checkpointError(label, 'its header entry is not an object');
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string') throw checkpointError(label, 'its dtype is not a string');
  if (!isShape(shape)) {
    throw checkpointError(
      label,
      `its shape is ${cut(shape)}, expected at most ${MAX_TENSOR_AXES} integers, each 0 or more`,
    );
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    throw checkpointError(
      label,
      `its data_offsets are ${cut(offsets)}, expected two integers, each 0 or more`,
    );
  }
  const [start, end] = offsets as [number, number];
  if (start > end) throw checkpointError(label, `its data begins at ${start}, after its end at ${end}`);
  if (end > dataBytes) {
    throw checkpointError(
      label,
      `its data ends at byte ${end}, but the file holds ${dataBytes} bytes of data`,
    );
  }
  const expected = tensorBytes(dtype, shape);
  if (expected === 'overflow') {
    throw checkpointError(label, `its shape ${cut(shape)} has more elements than can be counted`);
  }
  if (expected !== null && expected !== end - start) {
    throw checkpointError(
      label,
      `${dtype} of shape ${cut(shape)} takes ${expected} bytes, but its data_offsets span ${end - start}`,
    );
  }
  return { name, dtype, shape, start, end };
}

/** Bytes of a tensor; null for a type this file does not know, which can be skipped but never read. */
function tensorBytes(dtype: string, shape: readonly number[]): number | 'overflow' | null {
  const readable = READABLE_TYPES.get(dtype);
  const bits = readable ? STORED_TYPE_BYTES[readable] * 8 : OTHER_TYPE_BITS.get(dtype);
  let total = bits ?? 1;
  // A zero anywhere makes the product zero, whatever the other axes say.
  if (shape.includes(0)) total = 0;
  else {
    for (const size of shape) {
      total *= size;
      if (!Number.isSafeInteger(total)) return 'overflow';
    }
  }
  return bits === undefined ? null : total / 8;
}

/** Sorted by place, each tensor must begin where the one before it ends. */
function checkContiguous(entries: HeaderEntry[], dataBytes: number, where: string): void {
  entries.sort((a, b) => a.start - b.start || a.end - b.end);
  let end = 0;
  let before = 'the start of the data';
  for (const entry of entries) {
    const label = tensorLabel(where, entry.name);
    if (entry.start < end) {
      throw checkpointError(
        label,
        `its data begins at ${entry.start}, inside ${before}, which ends at ${end}`,
      );
    }
    if (entry.start > end) {
      throw checkpointError(
        label,
        `its data begins at ${entry.start}, a gap after ${before}, which ends at ${end}`,
      );
    }
    end = entry.end;
    before = `tensor ${entry.name.slice(0, 200)}`;
  }
  if (end !== dataBytes) {
    throw checkpointError(where, `${before} ends at ${end}, but the file holds ${dataBytes} bytes of data`);
  }
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;

const isShape = (value: unknown): value is number[] =>
  Array.isArray(value) && value.length <= MAX_TENSOR_AXES && value.every(isCount);

function cut(value: unknown): string {
  const text = JSON.stringify(value) ?? 'missing';
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
