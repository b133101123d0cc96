/**
 * One weights file, written from its start to its end and hashed on the way.
 *
 * In      bytes, each at or after the end of what was written before; gaps become zeros
 * Out     the file, its length and SHA-256
 * Errors  what the file system throws; writing backwards is a bug (assert)
 */
import assert from 'node:assert';
import { createHash } from 'node:crypto';
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';

const ZEROS = new Uint8Array(1 << 20);

export class WeightsFile {
  readonly #fd: number;
  readonly #hash = createHash('sha256');
  #position = 0;
  #isOpen = true;

  /** @param path must not exist yet */
  constructor(path: string) {
    this.#fd = openSync(path, 'wx');
  }

  /** Bytes written so far, zeros included. */
  get position(): number {
    return this.#position;
  }

  /** @param offset from the start of the file */
  write(offset: number, bytes: Uint8Array): void {
    this.padTo(offset);
    this.#append(bytes);
  }

  /** Zeros up to this offset. */
  padTo(offset: number): void {
    assert(offset >= this.#position, `offset ${offset} lies before ${this.#position}, the end so far`);
    while (this.#position < offset) {
      this.#append(ZEROS.subarray(0, Math.min(ZEROS.length, offset - this.#position)));
    }
  }

  /** Safe on disk, and closed. */
  finish(): { bytes: number; sha256: string } {
    fsyncSync(this.#fd);
    this.close();
    return { bytes: this.#position, sha256: this.#hash.digest('hex') };
  }

  /** Also after a failure; a second call does nothing. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    closeSync(this.#fd);
  }

  #append(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    // A write may be cut short (a signal, more than 2 GiB).
    for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    this.#position += bytes.length;
  }
}
