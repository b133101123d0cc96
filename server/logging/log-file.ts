/**
 * One log file that turns over: at 10 MB or a day, five old ones kept, gzipped (`serving.log.1.gz` is the youngest).
 *
 * In      lines without their end
 * Limits  MAX_WAITING_BYTES not yet written; lines beyond that are dropped and counted, since a slow disk must not stop the server
 * Errors  of the disk: told to `onTrouble` once, lines are dropped and counted, and the file is opened anew after a pause that doubles up
 *         to MAX_RETRY_MS. The server goes on
 * Source  DJLServing's log files. Unlike them it does not turn over at each start: a server that crashes and starts five
 *         times would push out the log of the first crash
 */
import path from 'node:path';
import { createStream, type RotatingFileStream } from 'rotating-file-stream';

const MAX_WAITING_BYTES = 8 * 1024 * 1024;
const OLD_FILES = 5;
const RETRY_MS = 1000;
const MAX_RETRY_MS = 60_000;

export class LogFile {
  readonly name: string;
  readonly #folder: string;
  readonly #onTrouble: (text: string) => void;
  readonly #firstRetryMs: number;
  /** null: it is broken, and a timer runs until it is tried again; or it is closed. */
  #stream: RotatingFileStream | null = null;
  #timer: NodeJS.Timeout | null = null;
  #retryMs: number;
  /** Something was written since it was opened. */
  #isTroubled = false;
  #isClosed = false;
  #dropped = 0;
  #untold = 0;

  constructor(folder: string, name: string, onTrouble: (text: string) => void, retryMs = RETRY_MS) {
    this.#folder = folder;
    this.name = name;
    this.#onTrouble = onTrouble;
    this.#firstRetryMs = retryMs;
    this.#retryMs = retryMs;
    this.#open();
  }

  /** Lines that nobody will see. */
  get dropped(): number {
    return this.#dropped;
  }

  write(line: string): void {
    if (this.#isClosed) return;
    const stream = this.#stream;
    if (stream === null || stream.writableLength > MAX_WAITING_BYTES) {
      this.#dropped++;
      this.#untold++;
      return;
    }
    if (!this.#isTroubled) this.#tellDropped('the disk was too slow');
    stream.write(`${line}\n`, (error) => {
      if (error) {
        this.#dropped++;
        this.#untold++;
      } else if (this.#stream === stream) this.#wrote();
    });
  }

  /** Resolves when what was written before is on its way to the disk. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    if (!this.#isTroubled) this.#tellDropped('the disk was too slow');
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    const stream = this.#stream;
    if (stream === null) return;
    await new Promise<void>((resolve) => {
      stream.once('error', () => resolve());
      stream.end(() => resolve());
    });
  }

  #open(): void {
    const fileName = (index: number | Date | null): string =>
      index ? `${this.name}.${index}.gz` : this.name;
    const stream = createStream(fileName, {
      path: this.#folder,
      size: '10M',
      interval: '1d',
      rotate: OLD_FILES,
      compress: 'gzip',
    });
    stream.on('error', (error) => this.#fail(stream, error));
    this.#stream = stream;
  }

  #wrote(): void {
    if (!this.#isTroubled) return;
    this.#isTroubled = false;
    this.#retryMs = this.#firstRetryMs;
    this.#tellDropped('it is written again');
  }

  #tellDropped(why: string): void {
    if (this.#untold === 0) return;
    const lines = this.#untold;
    // First: what is told may be a line of this very file.
    this.#untold = 0;
    this.#onTrouble(`${path.join(this.#folder, this.name)}: ${why}; ${lines} lines were dropped`);
  }

  #fail(stream: RotatingFileStream, error: Error): void {
    if (this.#isClosed || this.#stream !== stream) return;
    const isFirst = !this.#isTroubled;
    // First, for the same reason.
    this.#stream = null;
    this.#isTroubled = true;
    this.#timer = setTimeout(() => this.#open(), this.#retryMs);
    this.#timer.unref();
    this.#retryMs = Math.min(2 * this.#retryMs, MAX_RETRY_MS);
    const file = path.join(this.#folder, this.name);
    if (isFirst)
      this.#onTrouble(`${file} cannot be written: ${error.message}; its lines are dropped until it can`);
  }
}
