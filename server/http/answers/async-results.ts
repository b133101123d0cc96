/**
 * Answers that are fetched later: x-synchronous: false makes one, x-starting-token reads it, piece by piece.
 *
 * Life    reserved (at the door) → running (its job goes on whether anybody polls or not) → ended → forgotten `ttlMs` later
 * In      an Answer: a JSON value, or the frames of a stream, each of which is an item
 * Out     tokens: an id of 36 characters, followed by the index of the next item
 * Limits  maxResults and maxBytes over all results; where they are reached, ended results that were read to their end make room,
 *         then the one that ended first, if that is KEPT_UNREAD_MS ago: unread answers lock nobody out for longer
 *         one key has half of maxResults at most, and reads its own alone
 * Restart where there is a store (async-store.ts), what has ended lies there too, and is here again after a restart of the server
 * Errors  QUEUE_FULL at the door, INVALID_TOKEN at a poll; a result that fails ends with its error
 * Source  DJLServing 0.36: the memory cache of its asynchronous mode
 */
import { isUtf8 } from 'node:buffer';
import { randomUUID } from 'node:crypto';
import { ServingError } from '../../../proto/errors.js';
import { clientController } from '../../requests/client-controller.js';
import { quote } from '../../requests/validation.js';
import type { Answer } from './answer.js';
import type { AsyncStore } from './async-store.js';
import type { Frames } from './stream-reply.js';

const JSON_TYPE = 'application/json';
const KEPT_UNREAD_MS = 60_000;
const TOKEN = /^([0-9a-f-]{36})(\d{0,9})$/;

export interface AsyncResultLimits {
  maxResults: number;
  maxBytes: number;
  ttlMs: number;
}

export type Polled =
  | { kind: 'pending'; nextToken: string }
  /** nextToken is null at the end. */
  | { kind: 'items'; contentType: string; text: string; nextToken: string | null }
  | { kind: 'failed'; error: ServingError };

/** The place of one answer. */
export interface Reservation {
  readonly token: string;
  /** Aborts the job; also called when the server ends. */
  readonly client: AbortController;
  /** Reads the answer to its end, in the background. Resolves when the token outlives this server, where there is a store. */
  fill(answer: Answer): Promise<void>;
  /** There will be no answer. */
  release(): void;
}

export interface ReserveOptions {
  /** Who asks, and may read it; null: nobody in particular. */
  owner?: string | null;
  /** Called once, when its job has ended or was given up. */
  onEnd?: () => void;
}

interface StoredResult {
  readonly client: AbortController;
  contentType: string;
  readonly items: string[];
  bytes: number;
  endedAtMs: number | null;
  error: ServingError | null;
  owner: string | null;
  onEnd: () => void;
  expiry: NodeJS.Timeout | null;
}

export class AsyncResults {
  readonly #limits: AsyncResultLimits;
  readonly #store: AsyncStore | null;
  readonly #results = new Map<string, StoredResult>();
  /** Ids of ended results that were read to their end, the first that was read first. */
  readonly #read = new Set<string>();
  /** Ids of ended results, the first that ended first. */
  readonly #ended = new Set<string>();
  #bytes = 0;

  readonly #idleWaiters: (() => void)[] = [];

  constructor(limits: AsyncResultLimits, store: AsyncStore | null = null) {
    this.#limits = limits;
    this.#store = store;
    const [now, nowMs] = [Date.now(), performance.now()];
    for (const { bytes, contentType, endedAt, error, id, items, owner } of store?.load(limits, now) ?? []) {
      const ageMs = Math.max(0, now - endedAt);
      const result: StoredResult = {
        ...{ client: new AbortController(), contentType, items: [...items], bytes, error, owner },
        ...{ endedAtMs: nowMs - ageMs, expiry: null, onEnd: () => {} },
      };
      this.#results.set(id, result);
      this.#bytes += bytes;
      this.#expire(id, result, limits.ttlMs - ageMs);
    }
  }

  /** @throws ServingError QUEUE_FULL */
  reserve({ onEnd = () => {}, owner = null }: ReserveOptions = {}): Reservation {
    const { maxResults, maxBytes } = this.#limits;
    if (owner !== null) this.#checkShare(owner);
    if (this.#results.size >= maxResults) this.#forgetOne();
    while (this.#bytes >= maxBytes && this.#forgetOne());
    if (this.#results.size >= maxResults) {
      throw new ServingError(
        'QUEUE_FULL',
        `${this.#results.size} asynchronous answers are kept, async_result_limit is ${maxResults}: read some to their end first`,
        { retryAfterSeconds: KEPT_UNREAD_MS / 1000 },
      );
    }
    if (this.#bytes >= maxBytes) throw this.#tooManyBytes();
    const id = randomUUID();
    const client = clientController();
    const result: StoredResult = {
      client,
      contentType: JSON_TYPE,
      items: [],
      bytes: 0,
      endedAtMs: null,
      error: null,
      owner,
      onEnd,
      expiry: null,
    };
    this.#results.set(id, result);
    return {
      token: id,
      client,
      fill: (answer) => {
        const written = this.#store?.begun(id, owner);
        void this.#fill(id, result, answer);
        return written ?? Promise.resolve();
      },
      release: () => this.#forget(id),
    };
  }

  /**
   * @param owner who asks: a token that got into other hands is none of theirs
   * @throws ServingError INVALID_TOKEN
   */
  poll(token: string, maxItems: number, owner: string | null = null): Polled {
    const [, id = '', index = ''] = TOKEN.exec(token) ?? [];
    const result = this.#results.get(id);
    const start = Number(index);
    if (result === undefined || result.owner !== owner || start > result.items.length) {
      throw new ServingError('INVALID_TOKEN', `Invalid x-starting-token: ${quote(token).slice(1, -1)}`);
    }
    const end = Math.min(result.items.length, start + maxItems);
    if (end === start && result.error !== null) {
      this.#read.add(id);
      return { kind: 'failed', error: result.error };
    }
    if (end === start && result.endedAtMs === null) return { kind: 'pending', nextToken: token };
    const isLast = result.endedAtMs !== null && result.error === null && end === result.items.length;
    if (isLast) this.#read.add(id);
    return {
      kind: 'items',
      contentType: result.contentType,
      text: result.items.slice(start, end).join(''),
      nextToken: isLast ? null : `${id}${end}`,
    };
  }

  /** Resolves when no answer is being made, where a store will keep what is there; at once where none does. */
  async idle(): Promise<void> {
    while (this.#store !== null && [...this.#results.values()].some(({ endedAtMs }) => endedAtMs === null)) {
      await new Promise<void>((resolve) => {
        this.#idleWaiters.push(resolve);
      });
    }
  }

  /** Ends every job that runs and forgets all but what is stored. */
  async close(): Promise<void> {
    for (const id of [...this.#results.keys()]) this.#forget(id, 'keep the file');
    await this.#store?.close();
  }

  async #fill(id: string, result: StoredResult, answer: Answer): Promise<void> {
    try {
      if (answer.kind === 'value') {
        this.#append(result, JSON.stringify(await answer.make()));
      } else if (answer.kind === 'content') {
        const { chunks, contentType } = await answer.make();
        result.contentType = contentType;
        for await (const chunk of chunks) this.#append(result, textOf(chunk));
      } else {
        result.contentType = answer.contentType;
        for await (const item of itemsOf(answer.frames)) this.#append(result, item);
      }
    } catch (error) {
      result.error = ServingError.from(error);
      result.client.abort();
    }
    result.endedAtMs = performance.now();
    // Forgotten while it ran: its end was told then.
    if (!this.#results.has(id)) return;
    result.onEnd();
    for (const wake of this.#idleWaiters.splice(0)) wake();
    const { contentType, error, items, owner } = result;
    void this.#store?.ended({ id, contentType, error, items, owner, endedAt: Date.now() });
    this.#expire(id, result, this.#limits.ttlMs);
  }

  #expire(id: string, result: StoredResult, inMs: number): void {
    this.#ended.add(id);
    result.expiry = setTimeout(() => this.#forget(id), inMs).unref();
  }

  #append(result: StoredResult, item: string): void {
    const bytes = Buffer.byteLength(item);
    while (this.#bytes + bytes > this.#limits.maxBytes && this.#forgetOne());
    if (this.#bytes + bytes > this.#limits.maxBytes) throw this.#tooManyBytes();
    // Forgotten while it ran: its bytes are counted no more.
    if (result.client.signal.aborted) throw new ServingError('CANCELLED', 'The answer was given up');
    result.items.push(item);
    result.bytes += bytes;
    this.#bytes += bytes;
  }

  /** Half of what is kept is for the others: one key locks nobody out. @throws ServingError QUEUE_FULL */
  #checkShare(owner: string): void {
    const most = Math.max(1, Math.floor(this.#limits.maxResults / 2));
    const own = [...this.#results].filter(([, result]) => result.owner === owner);
    if (own.length < most) return;
    const read = own.find(([id]) => this.#read.has(id));
    if (read) {
      this.#forget(read[0]);
      return;
    }
    throw new ServingError(
      'QUEUE_FULL',
      `${own.length} asynchronous answers of this key are kept, a key may have ${most}, half of async_result_limit: read some to their end first`,
      { retryAfterSeconds: KEPT_UNREAD_MS / 1000 },
    );
  }

  #tooManyBytes(): ServingError {
    const { maxBytes } = this.#limits;
    return new ServingError(
      'QUEUE_FULL',
      `Asynchronous answers fill async_result_memory_mb, which is ${maxBytes / 1_048_576} MiB: read some to their end first`,
    );
  }

  /** One that was read, or else one that nobody has come for. */
  #forgetOne(): boolean {
    const [read] = this.#read;
    const [oldest] = this.#ended;
    const endedAtMs = this.#results.get(oldest ?? '')?.endedAtMs ?? Number.POSITIVE_INFINITY;
    const id = read ?? (performance.now() - endedAtMs >= KEPT_UNREAD_MS ? oldest : undefined);
    if (id === undefined) return false;
    this.#forget(id);
    return true;
  }

  #forget(id: string, file: 'remove the file' | 'keep the file' = 'remove the file'): void {
    const result = this.#results.get(id);
    if (result === undefined) return;
    if (file === 'remove the file') this.#store?.forget(id);
    for (const wake of this.#idleWaiters.splice(0)) wake();
    this.#results.delete(id);
    this.#read.delete(id);
    this.#ended.delete(id);
    this.#bytes -= result.bytes;
    if (result.expiry !== null) clearTimeout(result.expiry);
    result.client.abort();
    if (result.endedAtMs === null) result.onEnd();
  }
}

/** What is kept is text. */
function textOf(chunk: Uint8Array): string {
  const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  if (isUtf8(bytes)) return bytes.toString('utf8');
  throw new ServingError(
    'BAD_REQUEST',
    'An answer of bytes that are no text cannot be asked for asynchronously',
  );
}

/** The frames of a stream; an error before the first of them is the result's own, after it the dialect's words are an item. */
async function* itemsOf({ texts, broken }: Frames): AsyncGenerator<string> {
  let begun = false;
  try {
    for await (const text of texts) {
      begun = true;
      yield text;
    }
  } catch (thrown) {
    if (!begun) throw thrown;
    yield* broken?.(thrown) ?? [];
  }
}
