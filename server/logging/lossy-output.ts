/**
 * A log's way to standard output that never holds up the server: lines are lost before it waits.
 *
 * In      text that ends in a newline; a file descriptor
 * Out     the same bytes, in order; a line that was begun is ended before another begins
 * Limits  MAX_WAITING_BYTES not yet written: lines beyond them are dropped and counted. close() waits CLOSE_LIMIT_MS
 * Errors  none. A full or broken disk (ENOSPC, EIO) is tried again after RETRY_MS; a reader that is gone (EPIPE) is not
 * Source  pipe(7), open(2): a pipe is opened anew without blocking, which leaves the one that other processes hold as it is
 *
 * Not pino's own destination: at a write error it retries in a loop when the process ends, and the process never ends.
 */
import { closeSync, constants, fstatSync, openSync, write, writeSync } from 'node:fs';

const MAX_WAITING_BYTES = 4 * 1024 * 1024;
const MAX_WRITE_BYTES = 64 * 1024;
const RETRY_MS = 1000;
/** A pipe that is full is read soon, or not. */
const FULL_PIPE_MS = 50;
const CLOSE_LIMIT_MS = 1000;

export class LossyOutput {
  readonly name = 'stdout';
  readonly #onTrouble: (text: string) => void;
  readonly #fd: number;
  readonly #isOwnFd: boolean;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  /** What fs.write has in hand, or what is next. */
  #writing: Buffer | null = null;
  #retry: NodeJS.Timeout | null = null;
  /** A write runs, or comes at the end of this turn of the event loop. */
  #isBusy = false;
  #isWriting = false;
  #isBroken = false;
  #isClosed = false;
  #dropped = 0;
  #untold = 0;
  #whenEmpty: (() => void) | null = null;

  /** @param onTrouble is told when it writes again after lines were dropped */
  constructor(fd: number, onTrouble: (text: string) => void) {
    this.#onTrouble = onTrouble;
    const own = openWithoutBlocking(fd);
    this.#isOwnFd = own !== null;
    this.#fd = own ?? fd;
    process.on('exit', this.#onExit);
  }

  /** Lines that nobody will see. */
  get dropped(): number {
    return this.#dropped;
  }

  write(text: string): void {
    const bytes = Buffer.from(text);
    if (this.#isBroken || this.#isClosed || this.#waitingBytes + bytes.length > MAX_WAITING_BYTES) {
      this.#dropped++;
      this.#untold++;
      return;
    }
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    if (this.#isBusy || this.#retry !== null) return;
    this.#isBusy = true;
    setImmediate(() => this.#writeNext());
  }

  /** Resolves when what was written before is out, or cannot be soon. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    if (this.#waitingBytes > 0 && !this.#isBroken) {
      await new Promise<void>((resolve) => {
        const limit = setTimeout(resolve, CLOSE_LIMIT_MS);
        this.#whenEmpty = () => {
          clearTimeout(limit);
          resolve();
        };
      });
    }
    this.#isClosed = true;
    clearTimeout(this.#retry ?? undefined);
    process.off('exit', this.#onExit);
    if (this.#isOwnFd && !this.#isWriting) closeSync(this.#fd);
  }

  #writeNext(): void {
    this.#retry = null;
    if (this.#isClosed) return;
    this.#isBusy = true;
    this.#writing ??= this.#takeWaiting();
    const bytes = this.#writing;
    if (bytes === null) {
      this.#isBusy = false;
      this.#whenEmpty?.();
      return;
    }
    this.#isWriting = true;
    write(this.#fd, bytes, 0, bytes.length, null, (error, written) => {
      this.#isWriting = false;
      if (this.#isClosed) return;
      if (error) this.#failed(error);
      else this.#wrote(bytes, written);
    });
  }

  #wrote(bytes: Buffer, written: number): void {
    this.#waitingBytes -= written;
    this.#writing = written < bytes.length ? bytes.subarray(written) : null;
    // First: what is told may be a line of this very output.
    this.#writeNext();
    if (this.#untold === 0) return;
    const lines = this.#untold;
    this.#untold = 0;
    this.#onTrouble(`standard output could not be written for a while; ${lines} lines were dropped`);
  }

  #failed({ code }: NodeJS.ErrnoException): void {
    if (code === 'EPIPE' || code === 'EBADF') {
      this.#isBroken = true;
      this.#isBusy = false;
      this.#dropped += this.#waiting.length + 1;
      this.#waiting = [];
      this.#waitingBytes = 0;
      this.#whenEmpty?.();
      return;
    }
    this.#isBusy = false;
    this.#retry = setTimeout(() => this.#writeNext(), code === 'EAGAIN' ? FULL_PIPE_MS : RETRY_MS);
    this.#retry.unref();
  }

  #takeWaiting(): Buffer | null {
    if (this.#waiting.length === 0) return null;
    let count = 0;
    let bytes = 0;
    while (
      count < this.#waiting.length &&
      (count === 0 || bytes + this.#waiting[count]!.length <= MAX_WRITE_BYTES)
    )
      bytes += this.#waiting[count++]!.length;
    return Buffer.concat(this.#waiting.splice(0, count));
  }

  /** The last words of a process that ends without close(). */
  readonly #onExit = (): void => {
    if (this.#isWriting || this.#isBroken) return;
    try {
      for (let bytes = this.#writing ?? this.#takeWaiting(); bytes !== null; ) {
        const written = writeSync(this.#fd, bytes);
        bytes = written < bytes.length ? bytes.subarray(written) : this.#takeWaiting();
      }
    } catch {
      // One try: there is nobody to tell.
    }
  };
}

/** null: no pipe, which is what blocks for as long as its reader likes. */
function openWithoutBlocking(fd: number): number | null {
  try {
    if (!fstatSync(fd).isFIFO()) return null;
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch {
    return null;
  }
}
