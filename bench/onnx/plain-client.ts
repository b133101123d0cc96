/**
 * A client of HTTP/1.1 that costs next to nothing: the same request again and again over one connection. Node's own takes as long for a
 * request as a small model for its answer.
 *
 * In      the bytes of a request
 * Out     the status of its answer, when all of it is there
 * Limits  one request at a time; answers with a content-length
 * Errors  Error: the connection ended, or the answer has no length
 */
import { connect, type Socket } from 'node:net';

const HEAD_END = Buffer.from('\r\n\r\n');

interface Waiting {
  resolve(status: number): void;
  reject(error: Error): void;
}

export class PlainClient {
  readonly #socket: Socket;
  #waiting: Waiting | null = null;
  /** What came of an answer whose head is not whole. */
  #head: Buffer | null = null;
  #status = 0;
  /** Bytes of the body that are to come. */
  #left = 0;

  constructor(url: string) {
    const { hostname, port } = new URL(url);
    this.#socket = connect({ host: hostname, port: Number(port), noDelay: true });
    this.#socket.on('data', (piece) => this.#take(piece));
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('close', () => this.#fail(new Error('the server closed the connection')));
  }

  send(request: Buffer): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#socket.write(request);
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  #take(piece: Buffer): void {
    let body = piece;
    if (this.#left === 0) {
      const seen = this.#head === null ? piece : Buffer.concat([this.#head, piece]);
      const end = seen.indexOf(HEAD_END);
      if (end < 0) {
        this.#head = seen;
        return;
      }
      this.#head = null;
      const head = seen.toString('latin1', 0, end);
      const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
      if (length === undefined) {
        this.#fail(new Error(`an answer without a length: ${head}`));
        return;
      }
      this.#status = Number(head.slice(9, 12));
      this.#left = Number(length);
      body = seen.subarray(end + HEAD_END.length);
    }
    this.#left -= body.length;
    if (this.#left > 0) return;
    this.#left = 0;
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting?.resolve(this.#status);
  }

  #fail(error: Error): void {
    this.#waiting?.reject(error);
    this.#waiting = null;
  }
}
