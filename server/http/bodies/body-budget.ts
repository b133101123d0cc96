/**
 * Bytes of the bodies of all requests at a time, counted as they come: many large bodies are refused one by one before they are read.
 *
 * In      the stream of a body as Fastify is about to read it
 * Out     the same bytes
 * Limits  `maxBytes` over all requests until their responses end; the first FREE_BYTES of a body are not counted, so that nobody who
 *         holds the rest with an unfinished upload keeps ordinary requests out
 * Errors  QUEUE_FULL with Retry-After: the body does not fit now
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Transform } from 'node:stream';
import { ServingError } from '../../../proto/errors.js';
import { isHttp2 } from '../http2-requests.js';
import { PieceBlocks } from './piece-blocks.js';

const FREE_BYTES = 65_536;
const RETRY_AFTER_SECONDS = 1;

export class BodyBudget {
  readonly #maxBytes: number;
  #inFlight = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** What the body is read from instead; `response`: its end gives the bytes back. */
  metered(body: NodeJS.ReadableStream, request: IncomingMessage, response: ServerResponse): typeof body {
    const { 'content-length': declared, 'transfer-encoding': encoding } = request.headers;
    // HTTP/2 has no transfer-encoding: what says no length may be as long as it likes.
    const isOpen = encoding !== undefined || (declared === undefined && isHttp2(request));
    if (!isOpen && (declared === undefined || Number(declared) <= FREE_BYTES)) return body;
    let seen = 0;
    let held = 0;
    const blocks = new PieceBlocks((block) => meter.push(block));
    const meter: Transform = new Transform({
      transform: (piece: Buffer, _encoding, done) => {
        seen += piece.length;
        const more = Math.max(0, seen - FREE_BYTES) - held;
        if (this.#inFlight + more > this.#maxBytes) {
          done(this.#full());
          return;
        }
        this.#inFlight += more;
        held += more;
        blocks.add(piece);
        done();
      },
      flush: (done) => {
        blocks.end();
        done();
      },
    });
    response.once('close', () => {
      this.#inFlight -= held;
      held = 0;
      meter.destroy();
    });
    body.once('error', (error) => meter.destroy(error));
    return body.pipe(meter);
  }

  #full(): ServingError {
    return new ServingError(
      'QUEUE_FULL',
      `The bodies of the running requests have ${this.#inFlight} bytes already, and at most ${this.#maxBytes}, as many as max_request_size, are held at a time`,
      { retryAfterSeconds: RETRY_AFTER_SECONDS },
    );
  }
}
