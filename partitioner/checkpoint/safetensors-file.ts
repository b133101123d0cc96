/**
 * One open safetensors file.
 *
 * In      a path
 * Out     its checked entries, and positional reads of their bytes
 * Limits  a header of MAX_SAFETENSORS_HEADER_BYTES
 * Errors  ServingError CHECKPOINT_INVALID naming file and tensor: a header that lies, a file that was cut after it was opened
 */
import { closeSync, readSync } from 'node:fs';
import { MAX_SAFETENSORS_HEADER_BYTES } from '../../proto/limits.js';
import { checkpointError, errorCode, openPlainFile } from './json-file.js';
import { type HeaderEntry, parseSafetensorsHeader, tensorLabel } from './safetensors-header.js';

/** The u64 before the header. */
const LENGTH_BYTES = 8;

/** One read; Linux moves at most 2 GiB − 4096 bytes at once. */
const MAX_READ_BYTES = 1 << 30;

export class SafetensorsFile {
  readonly #fd: number;
  readonly #dataStart: number;

  private constructor(
    readonly path: string,
    fd: number,
    readonly bytes: number,
    readonly modifiedMs: number,
    dataStart: number,
    readonly entries: ReadonlyMap<string, HeaderEntry>,
  ) {
    this.#fd = fd;
    this.#dataStart = dataStart;
  }

  /** @throws ServingError CHECKPOINT_INVALID, the file closed again */
  static open(path: string): SafetensorsFile {
    const { fd, bytes, modifiedMs } = openPlainFile(path);
    try {
      if (bytes < LENGTH_BYTES) {
        throw checkpointError(
          path,
          `is ${bytes} bytes long, a safetensors file has at least ${LENGTH_BYTES}`,
        );
      }
      const length = Buffer.alloc(LENGTH_BYTES);
      readFully(fd, length, 0, path);
      const headerBytes = length.readBigUInt64LE();
      if (headerBytes > MAX_SAFETENSORS_HEADER_BYTES) {
        throw checkpointError(
          path,
          `its header claims ${headerBytes} bytes, the limit is ${MAX_SAFETENSORS_HEADER_BYTES}`,
        );
      }
      const dataStart = LENGTH_BYTES + Number(headerBytes);
      if (dataStart > bytes) {
        throw checkpointError(path, `its header claims ${headerBytes} bytes, but the file ends at ${bytes}`);
      }
      const header = Buffer.alloc(Number(headerBytes));
      readFully(fd, header, LENGTH_BYTES, path);
      const entries = parseSafetensorsHeader(header, bytes - dataStart, path);
      return new SafetensorsFile(path, fd, bytes, modifiedMs, dataStart, entries);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  get headerBytes(): number {
    return this.#dataStart - LENGTH_BYTES;
  }

  /** Fills `into` from byte `offset` of the entry's data; the range was checked by the caller. */
  read(entry: HeaderEntry, offset: number, into: Uint8Array): void {
    readFully(this.#fd, into, this.#dataStart + entry.start + offset, tensorLabel(this.path, entry.name));
  }

  close(): void {
    closeSync(this.#fd);
  }
}

function readFully(fd: number, into: Uint8Array, position: number, label: string): void {
  let done = 0;
  while (done < into.byteLength) {
    let got: number;
    try {
      got = readSync(fd, into, done, Math.min(into.byteLength - done, MAX_READ_BYTES), position + done);
    } catch (cause) {
      throw checkpointError(label, `cannot be read (${errorCode(cause)})`, cause);
    }
    if (got === 0) {
      throw checkpointError(
        label,
        `the file was cut while it was read: ${into.byteLength} bytes wanted at ${position}, ${done} there`,
      );
    }
    done += got;
  }
}
