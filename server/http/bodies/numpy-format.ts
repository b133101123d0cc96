/**
 * Tensors as NumPy writes them: .npy, and .npz, a zip of them.
 *
 * In      bytes
 * Out     NamedTensors; and back
 * Limits  headers of MAX_HEADER_BYTES, MAX_ARRAYS of an archive, what they unpack to is at most UNPACKED_RATIO times its size and `maxBytes`; numbers, truth
 *         values and texts, little-endian, row by row
 * Errors  ServingError BAD_REQUEST: anything else
 * Source  NumPy's format specification, versions 1 to 3
 */
import type { Entry } from 'yauzl';
import { ServingError } from '../../../proto/errors.js';
import { lateImport } from '../../../proto/late-import.js';
import type { NamedTensor, TensorType } from '../../requests/predict-request.js';
import { ELEMENT_BYTES, elementsOf, packStrings, unpackStrings } from '../../requests/tensor-types.js';

const MAGIC = Buffer.from('\x93NUMPY', 'latin1');
const MAX_HEADER_BYTES = 65_536;
const MAX_ARRAYS = 256;
const UNPACKED_RATIO = 100;
/** So many bytes are never too many. */
const UNPACKED_FLOOR = 1024 * 1024;
/** Data begin at a multiple of it. */
const ALIGNMENT = 64;

const DTYPES: readonly (readonly [string, TensorType])[] = [
  ...([
    ['|b1', 'BOOL'],
    ['|u1', 'UINT8'],
    ['<u2', 'UINT16'],
    ['<u4', 'UINT32'],
    ['<u8', 'UINT64'],
    ['|i1', 'INT8'],
    ['<i2', 'INT16'],
    ['<i4', 'INT32'],
    ['<i8', 'INT64'],
    ['<f2', 'FP16'],
    ['<f4', 'FP32'],
    ['<f8', 'FP64'],
  ] as const),
];
const typeOf = new Map<string, TensorType>(DTYPES);
const dtypeOf = new Map<TensorType, string>(DTYPES.map(([dtype, type]) => [type, dtype]));

const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);

/** @throws ServingError BAD_REQUEST */
export function readNpy(name: string, bytes: Buffer): NamedTensor {
  const shown = name === '' ? 'The array' : `Array ${name}`;
  const isLong = bytes[6]! >= 2;
  if (bytes.length < (isLong ? 12 : 10) || !bytes.subarray(0, 6).equals(MAGIC))
    throw bad(`${shown} is not in NumPy's format`);
  const major = bytes[6]!;
  const headerBytes = isLong ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8);
  const start = isLong ? 12 : 10;
  if (major > 3 || headerBytes > MAX_HEADER_BYTES || start + headerBytes > bytes.length)
    throw bad(`${shown} has a header of version ${major} and ${headerBytes} bytes, which cannot be read`);
  const header = bytes.toString('utf8', start, start + headerBytes);
  const dtype = /'descr':\s*'([^']*)'/.exec(header)?.[1];
  const isFortran = /'fortran_order':\s*(True|False)/.exec(header)?.[1];
  const shapeText = /'shape':\s*\(([\d,\s]*)\)/.exec(header)?.[1];
  if (dtype === undefined || isFortran === undefined || shapeText === undefined)
    throw bad(`${shown} has a header that cannot be read; arrays of records are not served`);
  const shape = shapeText
    .split(',')
    .map((axis) => axis.trim())
    .filter((axis) => axis !== '')
    .map(Number);
  // One row or column lies the same in both orders.
  if (isFortran === 'True' && shape.filter((axis) => axis > 1).length > 1)
    throw bad(`${shown} lies column by column; send numpy.ascontiguousarray of it`);
  const count = elementsOf(name, shape);
  const data = bytes.subarray(start + headerBytes);
  const text = /^([<|])([US])(\d{1,6})$/.exec(dtype);
  const width = text === null ? null : Number(text[3]) * (text[2] === 'U' ? 4 : 1);
  const type = text === null ? typeOf.get(dtype) : 'BYTES';
  if (type === undefined)
    throw bad(
      `${shown} is of ${dtype}, which is not served; served are ${[...typeOf.keys()].join(', ')}, U and S`,
    );
  const wanted = count * (width ?? ELEMENT_BYTES[type] ?? 0);
  if (data.length !== wanted)
    throw bad(`${shown} has ${data.length} bytes of data, but its shape wants ${wanted}`);
  if (width === null) return { name, type, shape, bytes: data };
  // However many there are, no data says so.
  if (width === 0 && count > 0) throw bad(`${shown} has texts of no characters`);
  const texts = Array.from({ length: count }, (_, index) =>
    fixedText(data.subarray(index * width, (index + 1) * width), text![2] === 'U'),
  );
  return { name, type, shape, bytes: packStrings(texts) };
}

/** Filled up with zeros. */
function fixedText(bytes: Buffer, isUnicode: boolean): string | Uint8Array {
  if (!isUnicode) {
    let end = bytes.length;
    while (end > 0 && bytes[end - 1] === 0) end--;
    return bytes.subarray(0, end);
  }
  const points: number[] = [];
  for (let at = 0; at < bytes.length; at += 4) points.push(bytes.readUInt32LE(at));
  while (points.at(-1) === 0) points.pop();
  if (points.some((point) => point > 0x10ffff)) throw bad('A text holds what is no character');
  return points.map((point) => String.fromCodePoint(point)).join('');
}

export function writeNpy({ bytes, name, shape, type }: NamedTensor): Buffer {
  let dtype = dtypeOf.get(type);
  let data: Uint8Array = bytes;
  if (dtype === undefined) {
    const texts = unpackStrings(name, bytes, elementsOf(name, shape)).map((one) => [...one.toString('utf8')]);
    const longest = texts.reduce((most, text) => Math.max(most, text.length), 1);
    const filled = Buffer.alloc(texts.length * longest * 4);
    texts.forEach((text, row) => {
      text.forEach((character, column) => {
        filled.writeUInt32LE(character.codePointAt(0)!, (row * longest + column) * 4);
      });
    });
    dtype = `<U${longest}`;
    data = filled;
  }
  const axes = shape.length === 1 ? `${shape[0]},` : shape.join(', ');
  const words = `{'descr': '${dtype}', 'fortran_order': False, 'shape': (${axes}), }`;
  const padded = Math.ceil((10 + words.length + 1) / ALIGNMENT) * ALIGNMENT - 10;
  const head = Buffer.alloc(10);
  MAGIC.copy(head);
  head[6] = 1;
  head.writeUInt16LE(padded, 8);
  return Buffer.concat([head, Buffer.from(`${words.padEnd(padded - 1)}\n`, 'latin1'), data]);
}

/** Reads what savez and savez_compressed write. @param maxBytes unpacked. @throws ServingError BAD_REQUEST */
export async function readNpz(bytes: Buffer, maxBytes: number): Promise<NamedTensor[]> {
  const tensors: NamedTensor[] = [];
  const most = Math.min(maxBytes, Math.max(UNPACKED_FLOOR, bytes.length * UNPACKED_RATIO));
  let room = most;
  try {
    const { fromBufferPromise } = await lateImport(() => import('yauzl'));
    const zip = await fromBufferPromise(bytes, { validateEntrySizes: true });
    if (zip.entryCount > MAX_ARRAYS)
      throw bad(`An archive may have at most ${MAX_ARRAYS} arrays, not ${zip.entryCount}`);
    const entries: Entry[] = [];
    for await (const entry of zip.eachEntry()) entries.push(entry);
    for (const entry of entries) {
      room -= entry.uncompressedSize;
      if (room < 0)
        throw bad(
          `An archive of ${bytes.length} bytes may unpack to at most ${most}: ${UNPACKED_RATIO} times its size, and no more than max_request_size`,
        );
      const pieces: Buffer[] = [];
      for await (const piece of await zip.openReadStreamPromise(entry)) pieces.push(piece as Buffer);
      tensors.push(readNpy(String(entry.fileName).replace(/\.npy$/, ''), Buffer.concat(pieces)));
    }
  } catch (error) {
    if (error instanceof ServingError) throw error;
    throw bad(`The body is no .npz archive: ${(error as Error).message}`);
  }
  return tensors;
}

export async function writeNpz(tensors: readonly NamedTensor[]): Promise<Buffer> {
  const { ZipFile } = await lateImport(() => import('yazl'));
  const zip = new ZipFile();
  for (const tensor of tensors) zip.addBuffer(writeNpy(tensor), `${tensor.name}.npy`, { compress: false });
  zip.end();
  const pieces: Buffer[] = [];
  for await (const piece of zip.outputStream) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}
