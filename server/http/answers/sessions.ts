/**
 * Sessions of clients: one that was opened is known by its id until it is closed or its time is over.
 *
 * In      who asks (a key), and for how long
 * Out     an id; whether a session is open
 * Limits  MAX_SESSIONS at a time, half of them of one key. What is asked in a session does not lengthen it
 * Errors  QUEUE_FULL
 * Source  LMI's stateful sessions, but in memory: they end with the server
 */
import { randomUUID } from 'node:crypto';
import { ServingError } from '../../../proto/errors.js';

const MAX_SESSIONS = 10_000;

export interface OpenedSession {
  id: string;
  expiresAtMs: number;
}

interface Session {
  owner: string | null;
  expiresAtMs: number;
}

export class Sessions {
  readonly #open = new Map<string, Session>();
  readonly #now: () => number;

  /** @param now by the wall clock: clients are told when a session ends */
  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /** @param owner null: nobody in particular. @throws ServingError QUEUE_FULL */
  open(owner: string | null, seconds: number): OpenedSession {
    const nowMs = this.#now();
    for (const [id, session] of this.#open) if (session.expiresAtMs <= nowMs) this.#open.delete(id);
    const all = [...this.#open.values()];
    checkRoom(all, MAX_SESSIONS, 'sessions', nowMs);
    const own = all.filter((session) => session.owner === owner);
    if (owner !== null) checkRoom(own, MAX_SESSIONS / 2, 'sessions of this key', nowMs);
    const id = randomUUID();
    const expiresAtMs = nowMs + seconds * 1000;
    this.#open.set(id, { owner, expiresAtMs });
    return { id, expiresAtMs };
  }

  /** An id that got into other hands is none of theirs. */
  isOpen(id: string, owner: string | null): boolean {
    const session = this.#open.get(id);
    return session !== undefined && session.owner === owner && session.expiresAtMs > this.#now();
  }

  /** @returns whether it was open */
  close(id: string, owner: string | null): boolean {
    return this.isOpen(id, owner) && this.#open.delete(id);
  }
}

/** @throws ServingError QUEUE_FULL */
function checkRoom(open: readonly Session[], most: number, what: string, nowMs: number): void {
  if (open.length < most) return;
  const soonestMs = Math.min(...open.map(({ expiresAtMs }) => expiresAtMs));
  throw new ServingError(
    'QUEUE_FULL',
    `${open.length} ${what} are open, at most ${most} may be: close some first`,
    {
      retryAfterSeconds: Math.ceil((soonestMs - nowMs) / 1000),
    },
  );
}
