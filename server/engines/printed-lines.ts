/**
 * What a child process prints, line by line, for the log: a model's code may print as much as it likes.
 *
 * Limits  MAX_LINE_CHARACTERS a line, MAX_LINES_A_SECOND; what is more is told as a number
 */
import type { Readable } from 'node:stream';

const MAX_LINE_CHARACTERS = 2000;
const MAX_LINES_A_SECOND = 200;

export class PrintedLines {
  readonly #onLine: (line: string) => void;
  #rest = '';
  #secondMs = 0;
  #inSecond = 0;
  #dropped = 0;

  constructor(stream: Readable, onLine: (line: string) => void) {
    this.#onLine = onLine;
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => this.#take(text));
    stream.on('end', () => {
      if (this.#rest !== '') this.#tell(this.#rest);
      this.#tellDropped();
    });
    stream.on('error', () => undefined);
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split('\n');
    // The rest of a line that is too long is lost with it.
    this.#rest = (lines.pop() ?? '').slice(0, MAX_LINE_CHARACTERS);
    for (const line of lines) this.#tell(line);
  }

  #tell(line: string): void {
    const nowMs = performance.now();
    if (nowMs - this.#secondMs >= 1000) {
      this.#secondMs = nowMs;
      this.#inSecond = 0;
      this.#tellDropped();
    }
    this.#inSecond += 1;
    if (this.#inSecond > MAX_LINES_A_SECOND) this.#dropped += 1;
    else this.#onLine(line.slice(0, MAX_LINE_CHARACTERS));
  }

  #tellDropped(): void {
    if (this.#dropped > 0) this.#onLine(`(${this.#dropped} more lines)`);
    this.#dropped = 0;
  }
}
