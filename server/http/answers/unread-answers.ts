/**
 * Answers that are sent whole, while their readers have not taken them: Node keeps what the socket does not take, for as long as the
 * reader likes.
 *
 * In      a response that is about to be sent, and its bytes
 * Limits  requests/unread-bytes.ts; readers of streams: stream-reply.ts, read-pace.ts. What the kernel takes at once (FREE_BYTES) is not
 *         counted, and by HTTP/2 not refused
 * Errors  QUEUE_FULL with Retry-After
 */
import type { ServerResponse } from 'node:http';
import { ServingError } from '../../../proto/errors.js';
import { UnreadBytes } from '../../requests/unread-bytes.js';
import { isHttp2 } from '../http2-requests.js';

const FREE_BYTES = 16_384;
const RETRY_AFTER_SECONDS = 1;

export class UnreadAnswers {
  readonly #unread: UnreadBytes;

  constructor(maxBytes: number, stallLimitMs: number) {
    this.#unread = new UnreadBytes(maxBytes, stallLimitMs);
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
    if (!isShort && !this.#unread.hasRoom(bytes)) throw this.#full();
    this.#unread.hold(raw, bytes, () => {
      onDropped();
      raw.destroy();
    });
    // The time is its connection's, which may wait longer for the next answer: before Node gives it that of an idle one.
    if (!byHttp2) raw.prependOnceListener('finish', () => raw.setTimeout(0));
  }

  #full(): ServingError {
    return new ServingError(
      'QUEUE_FULL',
      `${this.#unread.bytes} bytes of answers wait for their readers, and at most ${this.#unread.maxBytes} may`,
      { retryAfterSeconds: RETRY_AFTER_SECONDS },
    );
  }
}
