/**
 * Answers of calls that are answered once, while their readers have not taken them: what the connection does not take is kept, for as long as
 * the reader likes. Streams look after their readers by themselves.
 *
 * In      the stream below a call whose answer has just been written
 * Limits  requests/unread-bytes.ts
 * Errors  what would tell one waits behind the answer: the stream is reset, with the code that clients know as RESOURCE_EXHAUSTED where too
 *         many wait
 */
import { constants, type ServerHttp2Stream } from 'node:http2';
import { UnreadBytes } from '../requests/unread-bytes.js';

export class UnreadMessages {
  readonly #unread: UnreadBytes;

  constructor(maxBytes: number, stallLimitMs: number) {
    this.#unread = new UnreadBytes(maxBytes, stallLimitMs);
  }

  begin(stream: ServerHttp2Stream): void {
    const bytes = stream.writableLength;
    if (bytes === 0 || stream.destroyed) return;
    // Its own end by a code is an error of it.
    stream.once('error', () => {});
    if (!this.#unread.hasRoom(bytes)) {
      stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
      return;
    }
    // With a code: a reader that is told of none waits for the rest.
    this.#unread.hold(stream, bytes, () => stream.close(constants.NGHTTP2_CANCEL));
  }
}
