/**
 * One log file that turns over: at 10 MB or a day, five old ones kept, gzipped (`serving.log.1.gz` is the youngest).
 *
 * In      lines without their end
 * Limits  MAX_WAITING_BYTES not yet written; lines beyond that are dropped and counted, since a slow disk must not stop the server
 * Errors  the first error of the disk is told to `onTrouble`, once; lines are dropped from then on. The server goes on
 * Source  reference serving-apis §4.2. Unlike DJLServing it does not turn over at each start: a server that crashes and starts five
 *         times would push out the log of the first crash
 */
import path from 'node:path';
import { createStream, type RotatingFileStream } from 'rotating-file-stream';

const MAX_WAITING_BYTES = 8 * 1024 * 1024;
const OLD_FILES = 5;

export class LogFile {
  readonly #stream: RotatingFileStream;
  readonly #name: string;
  readonly #onTrouble: (text: string) => void;
  /** Until the first error, or close. */
  #isOpen = true;
  #dropped = 0;

  constructor(folder: string, name: string, onTrouble: (text: string) => void) {
    this.#name = path.join(folder, name);
    this.#onTrouble = onTrouble;
    const fileName = (index: number | Date | null): string => (index ? `${name}.${index}.gz` : name);
    this.#stream = createStream(fileName, {
      path: folder,
      size: '10M',
      interval: '1d',
      rotate: OLD_FILES,
      compress: 'gzip',
    });
    this.#stream.on('error', (error) => this.#fail(error));
  }

  write(line: string): void {
    if (!this.#isOpen) return;
    if (this.#stream.writableLength > MAX_WAITING_BYTES) {
      this.#dropped++;
      return;
    }
    this.#tellDropped();
    this.#stream.write(`${line}\n`);
  }

  /** Resolves when what was written before is on its way to the disk. */
  async close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#tellDropped();
    this.#isOpen = false;
    await new Promise<void>((resolve) => {
      this.#stream.once('error', () => resolve());
      this.#stream.end(() => resolve());
    });
  }

  #tellDropped(): void {
    if (this.#dropped === 0) return;
    const dropped = this.#dropped;
    // First: what is told may be a line of this very file.
    this.#dropped = 0;
    this.#onTrouble(`${this.#name}: the disk was too slow; ${dropped} lines were dropped`);
  }

  #fail(error: Error): void {
    if (!this.#isOpen) return;
    // First, for the same reason.
    this.#isOpen = false;
    this.#onTrouble(`${this.#name} is not written any more: ${error.message}`);
  }
}
