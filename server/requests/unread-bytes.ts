/**
 * Bytes of answers that wait for their readers, over all of them, by HTTP and by gRPC.
 *
 * In      what an answer is written to, and its bytes; mostUnread of the largest message
 * Out     whether there is room for so many more; `drop` is called for a reader that takes nothing
 * Limits  `maxBytes` over all, but for one; a reader that takes nothing for `stallLimitMs`, or less than MIN_BYTES_PER_SECOND, is dropped
 * Errors  none: who asks says what is refused
 */
/** A reader that takes less is there to hold a place: one that takes 16 KB every two minutes never stops. */
export const MIN_BYTES_PER_SECOND = 512;
const LEAST_BYTES = 256 * 1_048_576;
const LARGEST_MESSAGES = 4;

/** What may wait where a message may have so many bytes. */
export const mostUnread = (maxMessageBytes: number): number =>
  Math.max(LEAST_BYTES, LARGEST_MESSAGES * maxMessageBytes);

interface Outgoing {
  setTimeout(ms: number, stalled: () => void): unknown;
  once(event: 'close', closed: () => void): unknown;
}

export class UnreadBytes {
  readonly maxBytes: number;
  readonly #stallLimitMs: number;
  #bytes = 0;

  constructor(maxBytes: number, stallLimitMs: number) {
    this.maxBytes = maxBytes;
    this.#stallLimitMs = stallLimitMs;
  }

  get bytes(): number {
    return this.#bytes;
  }

  hasRoom(bytes: number): boolean {
    return this.#bytes === 0 || this.#bytes + bytes <= this.maxBytes;
  }

  /** Until it is closed. */
  hold(answer: Outgoing, bytes: number, drop: () => void): void {
    this.#bytes += bytes;
    // Node looks at what has left the connection, and calls back where nothing has.
    answer.setTimeout(this.#stallLimitMs, drop);
    const timer = setTimeout(drop, this.#stallLimitMs + (bytes / MIN_BYTES_PER_SECOND) * 1000).unref();
    answer.once('close', () => {
      clearTimeout(timer);
      this.#bytes -= bytes;
    });
  }
}
