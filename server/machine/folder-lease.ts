/**
 * A folder that one server at a time owns: a file in it carries the identity of its process.
 *
 * In      the folder; how long a lease of another machine is looked at
 * Out     the lease, to be given back
 * Limits  a lease of a process that is gone counts no more, nor does one of another machine (a container that was started anew looks like
 *         one) that was not renewed while it was looked at: the start waits so long. Two that start at once may both be refused, and never
 *         both have it
 * Errors  CONFIG_INVALID: another server has it; those of the file system
 */
import { readdirSync, statSync, unlinkSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { ServingError } from '../../proto/errors.js';
import { IDENTITY_PATTERN, isGone, machineId, processIdentity } from './process-identity.js';

const LEASE = new RegExp(`^\\.server-${IDENTITY_PATTERN}$`);
const RENEW_MS = 2000;
const FOREIGN_MS = 7000;
const LOOK_MS = 100;

export class FolderLease {
  readonly #file: string;
  readonly #renewal: NodeJS.Timeout;

  /**
   * @param key names the folder in messages
   * @throws ServingError CONFIG_INVALID
   */
  constructor(folder: string, key: string, foreignMs = FOREIGN_MS) {
    this.#file = path.join(folder, `.server-${processIdentity()}`);
    writeFileSync(this.#file, '', { mode: 0o600 });
    try {
      for (const name of readdirSync(folder)) refuseOther(folder, name, key, foreignMs);
    } catch (error) {
      this.#remove();
      throw error;
    }
    this.#renewal = setInterval(() => touch(this.#file), RENEW_MS).unref();
  }

  giveBack(): void {
    clearInterval(this.#renewal);
    this.#remove();
  }

  #remove(): void {
    remove(this.#file);
  }
}

/** @throws ServingError */
function refuseOther(folder: string, name: string, key: string, foreignMs: number): void {
  const [, machine = '', pid = '', startTime = ''] = LEASE.exec(name) ?? [];
  const file = path.join(folder, name);
  if (machine === '' || name === `.server-${processIdentity()}`) return;
  const isHere = machine === machineId();
  if (isHere ? isGone(machine, pid, startTime) : !isRenewed(file, foreignMs)) {
    remove(file);
    return;
  }
  const who = isHere ? `process ${pid}` : 'a server of another machine or container';
  throw new ServingError(
    'CONFIG_INVALID',
    `${key}: ${folder} is ${who}'s, which runs: give each server a folder of its own`,
  );
}

function isRenewed(file: string, foreignMs: number): boolean {
  const before = timeOf(file);
  const endMs = performance.now() + foreignMs;
  const never = new Int32Array(new SharedArrayBuffer(4));
  while (performance.now() < endMs && timeOf(file) === before) {
    // The server starts: nobody waits for this thread.
    Atomics.wait(never, 0, 0, Math.min(LOOK_MS, foreignMs));
  }
  return timeOf(file) !== before;
}

const timeOf = (file: string): number | null => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? null;

function touch(file: string): void {
  try {
    const now = new Date();
    utimesSync(file, now, now);
  } catch {
    // Gone with its folder, or a disk that is full: who starts next looks for the process.
  }
}

function remove(file: string): void {
  try {
    unlinkSync(file);
  } catch {
    // Somebody was faster.
  }
}
