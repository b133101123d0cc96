/**
 * Entries of a tar archive, plain or gzipped, into an entry writer.
 *
 * In      an archive file
 * Out     every file and folder handed to the writer, in the archive's order
 * Limits  MAX_HEADER_BYTES of headers and padding between two entries; those of EntryPolicy
 * Errors  CHECKPOINT_INVALID for links, devices, sparse files, unknown kinds, damage; those of EntryPolicy
 * Source  the format is tar-stream's business; the policy is not
 */
import { createReadStream } from 'node:fs';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { extract } from 'tar-stream';
import { type EntryPolicy, refused } from './entry-policy.js';
import type { EntryWriter } from './entry-writer.js';

/** pax headers and long names are kept in memory by the parser; padding at the end is at most a few blocks. */
const MAX_HEADER_BYTES = 1024 * 1024;

/** @throws ServingError, or the parser's own error for a damaged archive */
export async function readTar(
  archive: string,
  isGzipped: boolean,
  policy: EntryPolicy,
  writer: EntryWriter,
  onRead: (bytes: number) => void,
): Promise<void> {
  const parser = extract();
  let sinceEntry = 0;
  let produced = 0;
  const meter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      produced += chunk.length;
      sinceEntry += chunk.length;
      try {
        policy.checkRatio(produced);
        // A chunk may begin inside an entry, so one chunk is given on top.
        if (sinceEntry > MAX_HEADER_BYTES + chunk.length) {
          throw refused('', `is preceded by more than ${MAX_HEADER_BYTES} bytes of headers or padding`);
        }
        done(null, chunk);
      } catch (error) {
        done(error as Error);
      }
    },
  });
  const source = createReadStream(archive);
  source.on('data', (chunk) => onRead(chunk.length));
  const feed = isGzipped ? pipeline(source, createGunzip(), meter, parser) : pipeline(source, meter, parser);
  // The loop below reports first what the feed reports again.
  feed.catch(() => undefined);
  for await (const entry of parser) {
    sinceEntry = 0;
    const { name, pax, size = 0, type } = entry.header;
    if (type !== 'file' && type !== 'directory' && type !== 'contiguous-file') {
      throw refused(name, `is a ${type ?? 'thing of unknown kind'}; only files and folders are unpacked`);
    }
    if (Object.keys(pax ?? {}).some((key) => key.startsWith('GNU.sparse'))) {
      throw refused(name, 'is a sparse file');
    }
    const kind = type === 'directory' ? 'directory' : 'file';
    const target = policy.admit({ name, kind, declaredBytes: kind === 'file' ? size : 0 });
    if (kind === 'directory') {
      await writer.makeFolder(target);
      entry.resume();
      continue;
    }
    await writer.writeFile(
      target!,
      countReset(entry as unknown as AsyncIterable<Buffer>, () => {
        sinceEntry = 0;
      }),
    );
  }
  await feed;
}

/** Bytes of an entry are no header. */
async function* countReset(entry: AsyncIterable<Buffer>, reset: () => void): AsyncIterable<Buffer> {
  for await (const chunk of entry) {
    reset();
    yield chunk;
  }
}
