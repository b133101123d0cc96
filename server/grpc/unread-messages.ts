/**
 * Answers of calls that are answered once, while their readers have not taken them: what the connection does not take is kept, for as long as
 * the reader likes. Streams look after their readers by themselves.
 *
 * In      the stream below a call whose answer has just been written
 * Limits  `maxBytes` over all, but for one; a reader that takes nothing for `stallLimitMs` is given up, and one that takes next to nothing
 * Errors  what would tell one waits behind the answer: the stream is reset, with the code that clients know as RESOURCE_EXHAUSTED where too
 *         many wait
 */
import { constants, type ServerHttp2Stream } from 'node:http2';

/** A reader that takes less is none: as HTTP has it (http/answers/read-pace.ts). */
const MIN_BYTES_PER_SECOND = 512;

export class UnreadMessages {
  readonly #maxBytes: number;
  readonly #stallLimitMs: number;
  #bytes = 0;

  constructor(maxBytes: number, stallLimitMs: number) {
    this.#maxBytes = maxBytes;
    this.#stallLimitMs = stallLimitMs;
  }

  begin(stream: ServerHttp2Stream): void {
    const bytes = stream.writableLength;
    if (bytes === 0 || stream.destroyed) return;
    // Its own end by a code is an error of it.
    stream.once('error', () => {});
    if (this.#bytes > 0 && this.#bytes + bytes > this.#maxBytes) {
      stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
      return;
    }
    // With a code: a reader that is told of none waits for the rest.
    const drop = (): void => stream.close(constants.NGHTTP2_CANCEL);
    this.#bytes += bytes;
    // Node looks at what has left the connection, and calls back where nothing has.
    stream.setTimeout(this.#stallLimitMs, drop);
    const timer = setTimeout(drop, this.#stallLimitMs + (bytes / MIN_BYTES_PER_SECOND) * 1000).unref();
    stream.once('close', () => {
      clearTimeout(timer);
      this.#bytes -= bytes;
    });
  }
}
