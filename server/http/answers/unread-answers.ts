/**
 * Answers that are sent whole, while their readers have not taken them: Node keeps what the socket does not take, for as long as the
 * reader likes.
 *
 * In      a response that is about to be sent, and its bytes
 * Limits  `maxBytes` over all, but for one; a reader that takes nothing for `stallLimitMs` is dropped, and one that takes next to nothing, as
 *         those of streams are (stream-reply.ts, read-pace.ts). What the kernel takes at once (FREE_BYTES) is not
 *         counted, and by HTTP/2 not refused
 * Errors  QUEUE_FULL with Retry-After
 */
import type { ServerResponse } from 'node:http';
import { ServingError } from '../../../proto/errors.js';
import { isHttp2 } from '../http2-requests.js';
import { MIN_BYTES_PER_SECOND } from './read-pace.js';

const FREE_BYTES = 16_384;
const RETRY_AFTER_SECONDS = 1;

export class UnreadAnswers {
  readonly #maxBytes: number;
  readonly #stallLimitMs: number;
  #bytes = 0;

  constructor(maxBytes: number, stallLimitMs: number) {
    this.#maxBytes = maxBytes;
    this.#stallLimitMs = stallLimitMs;
  }

  /**
   * @param onDropped its reader takes nothing
   * @throws ServingError QUEUE_FULL
   */
  begin(raw: ServerResponse, bytes: number, onDropped: () => void): void {
    const isShort = bytes <= FREE_BYTES;
    const byHttp2 = isHttp2(raw.req);
    // A window of HTTP/2 may be of no size at all.
    if (isShort && !byHttp2) return;
    // An error is short, and has to be told.
    if (!isShort && this.#bytes > 0 && this.#bytes + bytes > this.#maxBytes) throw this.#full();
    this.#bytes += bytes;
    const drop = (): void => {
      onDropped();
      raw.destroy();
    };
    // Node looks at what has left the socket, and calls back where nothing has.
    raw.setTimeout(this.#stallLimitMs, drop);
    // The time is its connection's, which may wait longer for the next answer: before Node gives it that of an idle one.
    if (!byHttp2) raw.prependOnceListener('finish', () => raw.setTimeout(0));
    const timer = setTimeout(drop, this.#stallLimitMs + (bytes / MIN_BYTES_PER_SECOND) * 1000).unref();
    raw.once('close', () => {
      clearTimeout(timer);
      this.#bytes -= bytes;
    });
  }

  #full(): ServingError {
    return new ServingError(
      'QUEUE_FULL',
      `${this.#bytes} bytes of answers wait for their readers, and at most ${this.#maxBytes} may`,
      { retryAfterSeconds: RETRY_AFTER_SECONDS },
    );
  }
}
