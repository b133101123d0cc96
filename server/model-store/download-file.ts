/**
 * One remote file into a folder, resumed where it broke off.
 *
 * In      a way to open the remote file at an offset; what is known of its size
 * Out     the file under its name once it is whole; until then NAME.part, which a later call continues
 * Limits  maxBytes; MAX_ATTEMPTS openings, with RETRY_MS doubling between them
 * Errors  BAD_REQUEST more than maxBytes; MODEL_NOT_FOUND when every attempt broke off (cause: TransportError);
 *         CHECKPOINT_INVALID more bytes than announced; CANCELLED
 */
import { type FileHandle, open, rename, stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { ServingError } from '../../proto/errors.js';
import { TransportError } from './guarded-http.js';

const MAX_ATTEMPTS = 4;
const RETRY_MS = 100;

export interface RemoteBody {
  stream: Readable;
  /** Position in the file of the stream's first byte: the offset asked for, or 0 when the server cannot resume. */
  start: number;
  /** The whole file's; null: the server does not say. */
  totalBytes: number | null;
}

export interface FileDownload {
  /** For messages. */
  display: string;
  target: string;
  maxBytes: number;
  /** null: as the server says. */
  expectedBytes: number | null;
  /** @throws ServingError for good, TransportError when it may be tried again */
  open(offset: number): Promise<RemoteBody>;
  signal: AbortSignal;
  /** Bytes of the file on disk so far, of how many. */
  onProgress(doneBytes: number, totalBytes: number | null): void;
  /** Looks at the first bytes, `headBytes` or the whole file: throws if this is not what was wanted. */
  checkHead?: { headBytes: number; check(head: Buffer): void };
}

/**
 * @returns the file's size
 * @throws ServingError
 */
export async function downloadFile(download: FileDownload): Promise<number> {
  const { display, expectedBytes, signal, target } = download;
  const done = await sizeOf(target);
  if (done !== null) return done;
  const handle = await open(`${target}.part`, 'a+', 0o644);
  let bytes: number;
  try {
    bytes = await fetchWhole(download, handle);
    await handle.sync();
  } finally {
    await handle.close();
  }
  if (expectedBytes !== null && bytes !== expectedBytes) {
    throw new ServingError(
      'CHECKPOINT_INVALID',
      `${display} has ${bytes} bytes, its source announced ${expectedBytes}`,
    );
  }
  signal.throwIfAborted();
  await rename(`${target}.part`, target);
  return bytes;
}

async function fetchWhole(download: FileDownload, handle: FileHandle): Promise<number> {
  const { display, expectedBytes, maxBytes, signal } = download;
  for (let attempt = 1; ; attempt++) {
    let offset = (await handle.stat()).size;
    if (offset > (expectedBytes ?? maxBytes)) {
      await handle.truncate(0);
      offset = 0;
    }
    if (offset === expectedBytes) return offset;
    try {
      return await fetchRest(download, handle, offset);
    } catch (cause) {
      if (signal.aborted) throw cancelled(cause);
      if (!(cause instanceof TransportError)) throw cause;
      if (attempt === MAX_ATTEMPTS) {
        throw new ServingError(
          'MODEL_NOT_FOUND',
          `${display} could not be downloaded in ${MAX_ATTEMPTS} attempts: ${cause.message}`,
          { cause },
        );
      }
      await delay(RETRY_MS * 2 ** (attempt - 1), undefined, { signal }).catch((error: unknown) => {
        throw cancelled(error);
      });
    }
  }
}

async function fetchRest(download: FileDownload, handle: FileHandle, offset: number): Promise<number> {
  const { display, expectedBytes, maxBytes, onProgress } = download;
  const { start, stream, totalBytes: announced } = await download.open(offset);
  try {
    const totalBytes = announced ?? expectedBytes;
    if (start !== offset) {
      if (start !== 0) throw new TransportError(`the answer starts at byte ${start} instead of ${offset}`);
      await handle.truncate(0);
    }
    if ((totalBytes ?? 0) > maxBytes) throw tooLarge(display, totalBytes!, maxBytes);
    let doneBytes = start;
    let head: Buffer | null = start === 0 && download.checkHead ? Buffer.alloc(0) : null;
    for await (const chunk of bytesOf(stream)) {
      doneBytes += chunk.length;
      if (doneBytes > maxBytes) throw tooLarge(display, doneBytes, maxBytes);
      if (expectedBytes !== null && doneBytes > expectedBytes) {
        throw new ServingError(
          'CHECKPOINT_INVALID',
          `${display} sends more than the ${expectedBytes} bytes its source announced`,
        );
      }
      if (head !== null) head = checkedHead(download, Buffer.concat([head, chunk]), false);
      await handle.writeFile(chunk);
      onProgress(doneBytes, totalBytes);
    }
    if (totalBytes !== null && doneBytes < totalBytes) {
      throw new TransportError(`it ended after ${doneBytes} of ${totalBytes} bytes`);
    }
    if (head !== null) checkedHead(download, head, true);
    return doneBytes;
  } finally {
    stream.destroy();
  }
}

/** @returns null once the head has been checked */
function checkedHead(download: FileDownload, head: Buffer, isWhole: boolean): Buffer | null {
  const { checkHead } = download;
  if (!checkHead || (head.length < checkHead.headBytes && !isWhole)) return head;
  checkHead.check(head);
  return null;
}

/** A stream that breaks off is a TransportError. */
async function* bytesOf(stream: Readable): AsyncIterable<Buffer> {
  try {
    for await (const chunk of stream) yield chunk as Buffer;
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new TransportError(`the connection broke (${code ?? message})`, { cause });
  }
}

async function sizeOf(file: string): Promise<number | null> {
  try {
    return (await stat(file)).size;
  } catch {
    return null;
  }
}

function tooLarge(display: string, bytes: number, maxBytes: number): ServingError {
  return new ServingError(
    'BAD_REQUEST',
    `${display} has at least ${bytes} bytes, at most ${maxBytes} may be downloaded`,
  );
}

/** The one error of a fetch that its caller has given up. */
export function cancelled(cause?: unknown): ServingError {
  return new ServingError('CANCELLED', 'Fetching the model was cancelled', { cause });
}
