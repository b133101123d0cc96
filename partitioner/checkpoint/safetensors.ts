/**
 * A checkpoint in safetensors: one file, or many with their index.
 *
 * In      a model folder. model.safetensors; or model.safetensors.index.json and the files it names; or the only
 *         *.safetensors there is. The first of these that exists.
 * Out     TensorSource over all its tensors; F32, F16 and BF16 can be read, other types are listed as unsupported
 * Limits  MAX_SHARD_FILES; MAX_SAFETENSORS_HEADER_BYTES for the headers of all files together and for the index;
 *         one conversion buffer of CHUNK_BYTES
 * Errors  ServingError CHECKPOINT_INVALID naming file and tensor; nothing stays open then
 */
import assert from 'node:assert/strict';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { MAX_SAFETENSORS_HEADER_BYTES } from '../../proto/limits.js';
import { convertCommand } from './convert-command.js';
import { widenBfloat16, widenFloat16 } from './float-widening.js';
import { checkpointError, errorCode, isJsonObject, readJsonFile } from './json-file.js';
import { SafetensorsFile } from './safetensors-file.js';
import { type HeaderEntry, READABLE_TYPES, tensorLabel } from './safetensors-header.js';
import {
  checkRowRange,
  type Halves,
  type IntegerInfo,
  requireTensor,
  rowShape,
  type SourceFile,
  STORED_TYPE_BYTES,
  type TensorInfo,
  type TensorSource,
} from './tensor-source.js';

/** Files of one checkpoint, all open at once; the largest in use have under 200. */
export const MAX_SHARD_FILES = 1000;

const SINGLE_FILE = 'model.safetensors';
const INDEX_FILE = 'model.safetensors.index.json';
const ADAPTER_CONFIG = 'adapter_config.json';
const ADAPTER = `an adapter (${ADAPTER_CONFIG}) and no model: merge it into its base model and save that`;

/** Types of packed and quantised weights → bytes of one element. */
const INTEGER_BYTES: ReadonlyMap<string, number> = new Map([
  ['U8', 1],
  ['I8', 1],
  ['F8_E4M3', 1],
  ['I32', 4],
  ['I64', 8],
]);

/** Half-precision values are widened in pieces that stay in the processor's cache. */
const CHUNK_BYTES = 1 << 18;

/** @throws ServingError CHECKPOINT_INVALID */
export function openCheckpoint(folder: string): TensorSource {
  if (exists(join(folder, SINGLE_FILE))) return openFiles(folder, [SINGLE_FILE], null, []);
  if (exists(join(folder, INDEX_FILE))) return openIndexed(folder);
  return openFiles(folder, [findOnlyFile(folder)], null, []);
}

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** The only *.safetensors of a folder that has neither of the usual names. */
function findOnlyFile(folder: string): string {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (cause) {
    throw checkpointError(folder, `the folder cannot be read (${errorCode(cause)})`, cause);
  }
  const found = names.filter((name) => name.endsWith('.safetensors')).sort();
  const [only] = found;
  if (found.length > 1) {
    throw checkpointError(
      folder,
      `${found.length} safetensors files but no ${INDEX_FILE} that says which tensor is where`,
    );
  }
  if (only?.startsWith('adapter_') && names.includes(ADAPTER_CONFIG)) throw checkpointError(folder, ADAPTER);
  if (only !== undefined) return only;
  throw checkpointError(folder, insteadOfSafetensors(folder, names));
}

/** What a folder without safetensors has, and what to do about it. */
function insteadOfSafetensors(folder: string, names: readonly string[]): string {
  if (names.includes(ADAPTER_CONFIG)) return ADAPTER;
  const convert = convertCommand(folder, names);
  if (convert !== null) {
    return (
      'only a pickled checkpoint (pytorch_model*.bin) and no safetensors file: a pickle can run code, so it is not read. ' +
      `If you trust it: ${convert}`
    );
  }
  const pickled = names.find((name) => /\.(bin|pt|pth)$/.test(name));
  if (pickled !== undefined) {
    return (
      `no safetensors file, and of pickled files ${JSON.stringify(pickled)}, which is not Hugging Face's pytorch_model.bin: ` +
      'get the model in the Hugging Face layout'
    );
  }
  return `no ${SINGLE_FILE} and no ${INDEX_FILE}`;
}

function openIndexed(folder: string): TensorSource {
  const path = join(folder, INDEX_FILE);
  const { object, bytes, modifiedMs } = readJsonFile(path, MAX_SAFETENSORS_HEADER_BYTES);
  const weightMap = object.weight_map;
  if (!isJsonObject(weightMap)) throw checkpointError(path, 'weight_map is missing or not an object');
  const fileOf = new Map<string, string>();
  for (const [name, file] of Object.entries(weightMap)) {
    if (typeof file !== 'string' || !isPlainFileName(file)) {
      throw checkpointError(
        tensorLabel(path, name),
        `its file is ${JSON.stringify(file)?.slice(0, 200)}, expected the plain name of a .safetensors file in this folder`,
      );
    }
    fileOf.set(name, file);
  }
  const files = [...new Set(fileOf.values())].sort();
  if (files.length === 0) throw checkpointError(path, 'weight_map is empty');
  if (files.length > MAX_SHARD_FILES) {
    throw checkpointError(path, `names ${files.length} files, the limit is ${MAX_SHARD_FILES}`);
  }
  return openFiles(folder, files, { path, fileOf }, [{ path: INDEX_FILE, bytes, modifiedMs }]);
}

/** No folder, no way out of this one, nothing invisible. */
function isPlainFileName(file: string): boolean {
  return /^[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors$/.test(file) && file.length <= 255;
}

interface TensorIndex {
  path: string;
  fileOf: ReadonlyMap<string, string>;
}

/** Opens all or none. */
function openFiles(
  folder: string,
  names: readonly string[],
  index: TensorIndex | null,
  otherFiles: readonly SourceFile[],
): TensorSource {
  const opened = new Map<string, SafetensorsFile>();
  try {
    let headerBytes = 0;
    for (const name of names) {
      const file = SafetensorsFile.open(join(folder, name));
      opened.set(name, file);
      headerBytes += file.headerBytes;
      if (headerBytes > MAX_SAFETENSORS_HEADER_BYTES) {
        throw checkpointError(
          file.path,
          `brings the headers of this checkpoint to ${headerBytes} bytes, the limit is ${MAX_SAFETENSORS_HEADER_BYTES}`,
        );
      }
    }
    if (index) checkIndex(index, opened);
    return new SafetensorsSource(opened, otherFiles);
  } catch (error) {
    for (const file of opened.values()) file.close();
    throw error;
  }
}

/** Index and files must say the same: each tensor in its one file, and no file with a tensor the index does not know. */
function checkIndex({ path, fileOf }: TensorIndex, opened: ReadonlyMap<string, SafetensorsFile>): void {
  for (const [name, file] of fileOf) {
    if (!opened.get(file)?.entries.has(name)) {
      throw checkpointError(tensorLabel(path, name), `is said to be in ${file}, which does not have it`);
    }
  }
  for (const [file, { entries }] of opened) {
    for (const name of entries.keys()) {
      const indexed = fileOf.get(name);
      if (indexed === undefined) {
        throw checkpointError(tensorLabel(path, name), `is in ${file} but missing from the index`);
      }
      if (indexed !== file) {
        throw checkpointError(tensorLabel(path, name), `is in ${file} and in ${indexed}`);
      }
    }
  }
}

class SafetensorsSource implements TensorSource {
  readonly tensors = new Map<string, TensorInfo>();
  readonly unsupported = new Map<string, string>();
  readonly integers = new Map<string, IntegerInfo>();
  readonly files: readonly SourceFile[];
  readonly #places = new Map<string, { file: SafetensorsFile; entry: HeaderEntry }>();
  readonly #chunk = new Uint8Array(CHUNK_BYTES);
  #open = true;

  readonly #opened: ReadonlyMap<string, SafetensorsFile>;

  constructor(opened: ReadonlyMap<string, SafetensorsFile>, otherFiles: readonly SourceFile[]) {
    this.#opened = opened;
    const files = [...otherFiles];
    for (const [path, file] of opened) {
      files.push({ path, bytes: file.bytes, modifiedMs: file.modifiedMs });
      for (const [name, entry] of file.entries) {
        const type = READABLE_TYPES.get(entry.dtype);
        if (type === undefined) this.unsupported.set(name, entry.dtype);
        if (INTEGER_BYTES.has(entry.dtype)) {
          this.integers.set(name, { type: entry.dtype, shape: entry.shape });
        }
        if (type !== undefined) this.tensors.set(name, { name, type, shape: entry.shape });
        this.#places.set(name, { file, entry });
      }
    }
    this.files = files;
  }

  readFloat32(name: string, rowStart: number, rowEnd: number, into?: Float32Array): Float32Array {
    const info = requireTensor(this, name);
    const elements = checkRowRange(info, rowStart, rowEnd, into);
    const values = into === undefined ? new Float32Array(elements) : into.subarray(0, elements);
    const start = rowStart * rowShape(info.shape).rowElements;
    if (info.type === 'float32') {
      this.#read(name, start * 4, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
      return values;
    }
    const widen = info.type === 'float16' ? widenFloat16 : widenBfloat16;
    const bits = new Uint32Array(values.buffer, values.byteOffset, elements);
    for (let done = 0; done < elements; done += CHUNK_BYTES / 2) {
      const count = Math.min(elements - done, CHUNK_BYTES / 2);
      this.#read(name, (start + done) * 2, this.#chunk.subarray(0, count * 2));
      widen(new Uint16Array(this.#chunk.buffer, 0, count), bits.subarray(done, done + count));
    }
    return values;
  }

  readHalves(name: string, rowStart: number, rowEnd: number, into: Uint16Array): Halves | null {
    const info = requireTensor(this, name);
    if (info.type === 'float32') return null;
    const values = into.subarray(0, checkRowRange(info, rowStart, rowEnd, into));
    const start = rowStart * rowShape(info.shape).rowElements;
    this.#read(name, start * 2, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    return { type: info.type, values };
  }

  readBytes(name: string, rowStart: number, rowEnd: number): Uint8Array {
    const info = requireTensor(this, name);
    const elementBytes = STORED_TYPE_BYTES[info.type];
    const bytes = new Uint8Array(checkRowRange(info, rowStart, rowEnd, undefined) * elementBytes);
    this.#read(name, rowStart * rowShape(info.shape).rowElements * elementBytes, bytes);
    return bytes;
  }

  readIntegerBytes(name: string, rowStart: number, rowEnd: number): Uint8Array {
    const info = this.integers.get(name);
    assert(info, `${name} holds no whole numbers`);
    const { rows, rowElements } = rowShape(info.shape);
    assert(0 <= rowStart && rowStart <= rowEnd && rowEnd <= rows, `rows ${rowStart} to ${rowEnd} of ${name}`);
    const rowBytes = rowElements * (INTEGER_BYTES.get(info.type) ?? 1);
    const bytes = new Uint8Array((rowEnd - rowStart) * rowBytes);
    this.#read(name, rowStart * rowBytes, bytes);
    return bytes;
  }

  close(): void {
    if (this.#open) for (const file of this.#opened.values()) file.close();
    this.#open = false;
  }

  #read(name: string, offset: number, into: Uint8Array): void {
    // A closed descriptor's number may belong to another file by now.
    assert(this.#open, 'read from a closed checkpoint');
    const place = this.#places.get(name);
    assert(place, name);
    place.file.read(place.entry, offset, into);
  }
}
