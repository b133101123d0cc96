/** Writers of tar and zip bytes that check nothing, so that a test can write what no library would. */
import { createHash } from 'node:crypto';
import zlib, { deflateRawSync } from 'node:zlib';

const BLOCK = 512;

export interface TarEntry {
  name: string | Buffer;
  /** One character: 0 file, 1 hard link, 2 symbolic link, 3 and 4 devices, 5 folder, 6 fifo, x pax, L long name, S sparse. */
  type?: string;
  content?: string | Buffer;
  linkName?: string;
  mode?: number;
  /** Instead of the content's; a Buffer goes into the field as it is. */
  declaredBytes?: number | Buffer;
}

function tarHeader(entry: TarEntry): Buffer {
  const content = Buffer.from(entry.content ?? '');
  const header = Buffer.alloc(BLOCK);
  Buffer.from(entry.name).copy(header, 0, 0, 100);
  header.write(octal(entry.mode ?? 0o644, 7), 100);
  header.write(octal(0, 7), 108);
  header.write(octal(0, 7), 116);
  const { declaredBytes = content.length } = entry;
  if (Buffer.isBuffer(declaredBytes)) declaredBytes.copy(header, 124);
  else header.write(octal(declaredBytes, 11), 124);
  header.write(octal(0, 11), 136);
  header.write(entry.type ?? '0', 156);
  header.write(entry.linkName ?? '', 157, 100);
  header.write('ustar\x0000', 257);
  header.write(' '.repeat(8), 148);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${octal(sum, 6)}\0 `, 148);
  return header;
}

export function tarBytes(entries: readonly TarEntry[], { end = true } = {}): Buffer {
  const parts = entries.flatMap((entry) => {
    const content = Buffer.from(entry.content ?? '');
    return [tarHeader(entry), content, Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK)];
  });
  return Buffer.concat([...parts, Buffer.alloc(end ? 2 * BLOCK : 0)]);
}

/** A pax header with records as given: `length key=value\n`. */
export const paxEntry = (records: string): TarEntry => ({ name: 'pax', type: 'x', content: records });

export const paxRecord = (key: string, value: string): string => {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length;
  while (`${length}${rest}`.length !== length) length = `${length}${rest}`.length;
  return `${length}${rest}`;
};

const octal = (value: number, width: number): string => value.toString(8).padStart(width, '0');

export interface ZipEntry {
  name: string | Buffer;
  content?: string | Buffer;
  /** Unix mode with the file type, in the high half of the external attributes. */
  mode?: number;
  stored?: boolean;
  /** Instead of the true ones. */
  declaredBytes?: number;
  compressedBytes?: number;
  crc?: number;
  flags?: number;
  method?: number;
  /** Shares the bytes of the entry of this index. */
  sameAs?: number;
}

export function zipBytes(entries: readonly ZipEntry[], { declaredEntries = entries.length } = {}): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  const offsets: number[] = [];
  let offset = 0;
  for (const entry of entries) {
    const name = Buffer.from(entry.name);
    const content = Buffer.from(entry.content ?? '');
    const data = entry.stored ? content : deflateRawSync(content);
    const fixed = Buffer.alloc(26);
    fixed.writeUInt16LE(20, 0);
    fixed.writeUInt16LE(entry.flags ?? 0x800, 2);
    fixed.writeUInt16LE(entry.method ?? (entry.stored ? 0 : 8), 4);
    fixed.writeUInt32LE(entry.crc ?? crc32(content), 10);
    fixed.writeUInt32LE(entry.compressedBytes ?? data.length, 14);
    fixed.writeUInt32LE(entry.declaredBytes ?? content.length, 18);
    fixed.writeUInt16LE(name.length, 22);
    const start = entry.sameAs === undefined ? offset : offsets[entry.sameAs]!;
    offsets.push(start);
    if (entry.sameAs === undefined) {
      const local = Buffer.concat([Buffer.from('PK\x03\x04', 'latin1'), fixed, name, data]);
      parts.push(local);
      offset += local.length;
    }
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(((entry.mode ?? 0o100644) << 16) >>> 0, 6);
    tail.writeUInt32LE(start, 10);
    // Made by: Unix (3).
    directory.push(Buffer.from('PK\x01\x02\x14\x03', 'latin1'), fixed, tail, name);
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(declaredEntries, 8);
  end.writeUInt16LE(declaredEntries, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, central, end]);
}

/** Bit by bit, since zlib.crc32 is younger than the oldest Node this runs on. */
function crc32(bytes: Buffer): number {
  if (zlib.crc32) return zlib.crc32(bytes);
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return (sum ^ 0xffffffff) >>> 0;
}

export const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
export const md5 = (bytes: Buffer): string => createHash('md5').update(bytes).digest('hex');
export const gitBlobId = (bytes: Buffer): string =>
  createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
