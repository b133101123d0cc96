/**
 * Every request as a JSON line, for who wants to see for himself.
 *
 * In      records as they end
 * Out     a file; its head of a line: settings, load, round, model
 * Limits  written in pieces of PIECE characters, so that a load waits for no disk
 */
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import path from 'node:path';
import type { RequestRecord } from '../load/request-record.js';
import type { Question } from '../run/measurement.js';

const PIECE = 2 ** 20;

export class RequestLog {
  readonly #fd: number;
  #waiting = '';

  constructor(file: string) {
    mkdirSync(path.dirname(file), { recursive: true });
    this.#fd = openSync(file, 'a');
  }

  write({ load, round, settings }: Question, model: string, record: RequestRecord): void {
    this.#waiting += `${JSON.stringify({ model, settings, load, round, ...record })}\n`;
    if (this.#waiting.length >= PIECE) this.#flush();
  }

  close(): void {
    this.#flush();
    closeSync(this.#fd);
  }

  #flush(): void {
    writeSync(this.#fd, this.#waiting);
    this.#waiting = '';
  }
}
