/**
 * The memory that worker groups were promised and have not touched yet, over all models of the server.
 *
 * In      reservations, with the processes that hold them
 * Out     free bytes: what the machine has, less what was promised and is not in use
 * Limits  reads one small file of /proc a process, when a group is about to start
 * Errors  none: a process that is gone holds nothing
 *
 * Two models that load one after the other see the same free memory, since KV cache is touched only as it is used: without
 * the ledger both would be promised it. Mapped weights count as free for the machine (they can be read again), so only
 * anonymous and shared-memory pages of a worker are what it already uses of its reservation.
 */
import { readFileSync } from 'node:fs';
import { availableMemory } from './machine-limits.js';

interface Reservation {
  readonly bytes: number;
  readonly pids: () => readonly (number | undefined)[];
}

export class MemoryLedger {
  readonly #availableBytes: () => number;
  readonly #usedBytes: (pid: number) => number;
  readonly #reservations = new Set<Reservation>();

  constructor(availableBytes: () => number = availableMemory, usedBytes = usedByProcess) {
    this.#availableBytes = availableBytes;
    this.#usedBytes = usedBytes;
  }

  /** May be negative: more was promised than there is now. */
  freeBytes(): number {
    let promised = 0;
    for (const { bytes, pids } of this.#reservations) {
      let used = 0;
      for (const pid of pids()) if (pid !== undefined) used += this.#usedBytes(pid);
      promised += Math.max(0, bytes - used);
    }
    return this.#availableBytes() - promised;
  }

  /** @returns how to give it back */
  reserve(bytes: number, pids: () => readonly (number | undefined)[]): () => void {
    const reservation = { bytes, pids };
    this.#reservations.add(reservation);
    return () => this.#reservations.delete(reservation);
  }
}

function usedByProcess(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const kib = (key: string): number =>
      Number(new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1] ?? 0);
    return (kib('RssAnon') + kib('RssShmem')) * 1024;
  } catch {
    return 0;
  }
}
