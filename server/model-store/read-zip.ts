/**
 * Entries of a zip archive into an entry writer.
 *
 * In      an archive file; its central directory is what counts
 * Out     every file and folder handed to the writer, in the directory's order
 * Limits  entries are counted before the first is read; those of EntryPolicy
 * Errors  CHECKPOINT_INVALID for links, devices, encryption, overlapping entries, wrong sizes or sums; those of EntryPolicy
 * Source  the format is yauzl's business (PKWARE APPNOTE 6.3.9); the policy is not
 */
import zlib from 'node:zlib';
import { type Entry, openPromise, type ZipFile } from 'yauzl';
import { ServingError } from '../../proto/errors.js';
import { type EntryPolicy, refused, type UnpackLimits } from './entry-policy.js';
import type { EntryWriter } from './entry-writer.js';

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
/** Fixed part of a local file header; name and extra field follow. */
const LOCAL_HEADER_BYTES = 30;

/** @throws ServingError, or the parser's own error for a damaged archive */
export async function readZip(
  archive: string,
  limits: UnpackLimits,
  policy: EntryPolicy,
  writer: EntryWriter,
  onRead: (bytes: number) => void,
): Promise<void> {
  // Names stay bytes: the parser would turn backslashes into slashes.
  const zip = await openPromise(archive, {
    decodeStrings: false,
    validateEntrySizes: true,
    autoClose: false,
  });
  try {
    if (zip.entryCount > limits.maxEntries) {
      throw new ServingError(
        'BAD_REQUEST',
        `The archive has ${zip.entryCount} entries, at most ${limits.maxEntries} are allowed`,
      );
    }
    // All names, kinds and declared sizes are checked before the first byte is written.
    const admitted: { entry: Entry; name: string; target: string | null; isFolder: boolean }[] = [];
    for await (const entry of zip.eachEntry()) {
      const name = nameOf(entry);
      const isFolder = checkKind(entry, name);
      const declaredBytes = isFolder ? 0 : entry.uncompressedSize;
      const target = policy.admit({ name, kind: isFolder ? 'directory' : 'file', declaredBytes });
      admitted.push({ entry, name, target, isFolder });
    }
    checkOverlap(admitted);
    for (const { entry, name, target, isFolder } of admitted) {
      if (isFolder) await writer.makeFolder(target);
      else await writer.writeFile(target!, contentOf(zip, entry, name));
      onRead(entry.compressedSize);
    }
  } finally {
    zip.close();
  }
}

function nameOf(entry: Entry): string {
  const bytes = entry.fileNameRaw;
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw refused(bytes.toString('latin1'), 'has a name that is not UTF-8');
  }
}

/** @returns true for a folder */
function checkKind(entry: Entry, name: string): boolean {
  if (entry.isEncrypted()) throw refused(name, 'is encrypted');
  // Who made it may lie about the host system, so the Unix mode counts whenever there is one.
  const fileType = (entry.externalFileAttributes >>> 16) & S_IFMT;
  if (fileType !== 0 && fileType !== S_IFREG && fileType !== S_IFDIR) {
    throw refused(name, 'is a link, device or other special file; only files and folders are unpacked');
  }
  const isFolder = name.endsWith('/');
  if (isFolder && entry.uncompressedSize > 0) throw refused(name, 'is a folder with content');
  if (!isFolder && fileType === S_IFDIR) throw refused(name, 'is both a file and a folder');
  return isFolder;
}

/** Entries that share compressed bytes are how a small zip becomes petabytes. */
function checkOverlap(admitted: readonly { entry: Entry; name: string }[]): void {
  const inOrder = [...admitted].sort(
    (a, b) => a.entry.relativeOffsetOfLocalHeader - b.entry.relativeOffsetOfLocalHeader,
  );
  let end = 0;
  for (const { entry, name } of inOrder) {
    const start = entry.relativeOffsetOfLocalHeader;
    if (start < end) throw refused(name, 'shares its bytes with another entry');
    end = start + LOCAL_HEADER_BYTES + entry.fileNameLength + entry.compressedSize;
  }
}

/** Opened by its first reader: the stream may fail at once, and an error that nobody listens to ends the process. */
async function* contentOf(zip: ZipFile, entry: Entry, name: string): AsyncIterable<Buffer> {
  const stream = await zip.openReadStreamPromise(entry);
  let sum = 0;
  for await (const chunk of stream) {
    // Since Node 20.15; before it only the sizes are checked.
    sum = zlib.crc32?.(chunk, sum) ?? entry.crc32;
    yield chunk;
  }
  if (sum !== entry.crc32) throw refused(name, 'is damaged: its sum is not the one in the directory');
}
