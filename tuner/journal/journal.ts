/**
 * What was measured, on disk the moment it is known: a header, then a JSON line a measurement.
 *
 * In      a file, the header of this run
 * Out     the measurements that are there; append() returns when the line is on the disk (fsync)
 * Limits  MAX_BYTES; one writer (the file is locked by its own name + `.lock`, made exclusively, with the writer's pid)
 * Errors  JournalMismatch: of another host, build, model or load, with what differs; JournalDamaged: a whole line that is none
 * How     a file that was cut anywhere, as by a crash, is read up to its last whole line, and goes on from there
 */
import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import type { Measurement } from '../run/measurement.js';

/** Digests of all that a figure depends on, by what people call it. */
export type JournalHeader = Readonly<Record<string, string>>;

const FORMAT = 1;
const MAX_BYTES = 1024 * 2 ** 20;

export class JournalMismatch extends Error {}
export class JournalDamaged extends Error {}

interface HeaderLine {
  journal: number;
  header: JournalHeader;
}

export interface JournalOptions {
  /** Measured elsewhere, or by another build: go on all the same. */
  force: boolean;
}

export class Journal {
  readonly file: string;
  readonly measurements: Measurement[];
  readonly #fd: number;
  readonly #lock: string;

  private constructor(file: string, fd: number, lock: string, measurements: Measurement[]) {
    this.file = file;
    this.#fd = fd;
    this.#lock = lock;
    this.measurements = measurements;
  }

  /** @throws JournalMismatch, JournalDamaged, Error when another process writes it */
  static open(file: string, header: JournalHeader, { force }: JournalOptions): Journal {
    const lock = takeLock(`${file}.lock`);
    try {
      const found = existsSync(file) ? readJournal(file) : null;
      if (found !== null && !force) {
        const differing = differences(found.header, header);
        if (differing.length > 0) {
          throw new JournalMismatch(
            `${file} was measured under other conditions: ${differing.join('; ')}. Its figures do not compare; another journal, or --force`,
          );
        }
      }
      const fd = openSync(file, found === null ? 'w' : 'r+');
      const journal = new Journal(file, fd, lock, found?.measurements ?? []);
      if (found === null) {
        journal.#write({ journal: FORMAT, header } satisfies HeaderLine);
        syncFolder(path.dirname(path.resolve(file)));
      } else {
        ftruncateSync(fd, found.bytes);
      }
      return journal;
    } catch (error) {
      unlinkSync(lock);
      throw error;
    }
  }

  /** On the disk when it returns. */
  append(measurement: Measurement): void {
    this.#write(measurement);
    this.measurements.push(measurement);
  }

  close(): void {
    closeSync(this.#fd);
    unlinkSync(this.#lock);
  }

  #write(value: object): void {
    const line = Buffer.from(`${JSON.stringify(value)}\n`);
    const end = fstatSync(this.#fd).size;
    try {
      for (let written = 0; written < line.length; ) {
        written += writeSync(this.#fd, line, written, line.length - written, end + written);
      }
      fsyncSync(this.#fd);
    } catch (error) {
      // A line that a full disk has cut would run into the next.
      ftruncateSync(this.#fd, end);
      throw error;
    }
  }
}

export interface ReadJournal {
  header: JournalHeader;
  measurements: Measurement[];
  /** Up to the end of the last whole line. */
  bytes: number;
}

/** null: there is not even a whole header. @throws JournalDamaged */
export function readJournal(file: string): ReadJournal | null {
  const content = readFileSync(file);
  if (content.length > MAX_BYTES)
    throw new JournalDamaged(`${file} has ${content.length} bytes, ${MAX_BYTES} may be`);
  const bytes = content.lastIndexOf(10) + 1;
  if (bytes === 0) return null;
  const lines = content
    .subarray(0, bytes - 1)
    .toString('utf8')
    .split('\n');
  const values = lines.map((line, index) => {
    try {
      return JSON.parse(line) as unknown;
    } catch {
      throw new JournalDamaged(`${file}:${index + 1} is not JSON: ${line.slice(0, 60)}`);
    }
  });
  const head = values[0] as Partial<HeaderLine> | null;
  if (
    head === null ||
    typeof head !== 'object' ||
    head.journal !== FORMAT ||
    typeof head.header !== 'object'
  ) {
    throw new JournalDamaged(`${file} is no journal of format ${FORMAT}`);
  }
  const measurements = values.slice(1) as Measurement[];
  const odd = measurements.findIndex((one) => typeof one?.key !== 'string' || typeof one.models !== 'object');
  if (odd !== -1) throw new JournalDamaged(`${file}:${odd + 2} is no measurement`);
  return { header: head.header!, measurements, bytes };
}

function differences(then: JournalHeader, now: JournalHeader): string[] {
  return [...new Set([...Object.keys(then), ...Object.keys(now)])]
    .filter((name) => then[name] !== now[name])
    .map((name) => `${name} was ${then[name] ?? 'not there'} and is ${now[name] ?? 'not there'}`);
}

function takeLock(lock: string): string {
  try {
    writeFileSync(lock, `${process.pid}\n`, { flag: 'wx' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    const pid = Number(readFileSync(lock, 'utf8').trim());
    if (isAlive(pid)) throw new Error(`${lock}: process ${pid} is measuring into this journal`);
    writeFileSync(lock, `${process.pid}\n`);
  }
  return lock;
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  fsyncSync(fd);
  closeSync(fd);
}
