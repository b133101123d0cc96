/**
 * What a handler of DJLServing's shape is given: `handle(inputs)`. The first call is empty.
 *
 * In      requests of one batch
 * Out     parts by key, as text, JSON or bytes; properties (headers and parameters)
 * Errors  SyntaxError: a part is not JSON; Error: there is no such part
 * Source  DJLServing's Python Input, in this language's spelling
 */
import type { HandlerRequest } from './handler-messages.js';

const text = new TextDecoder('utf-8', { fatal: true });

export class Input {
  readonly #requests: readonly HandlerRequest[];
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;

  constructor(requests: readonly HandlerRequest[], signal: AbortSignal = new AbortController().signal) {
    this.#requests = requests;
    this.signal = signal;
  }

  /** The call that warms up, before any request. */
  isEmpty(): boolean {
    return this.#requests.length === 0;
  }

  isBatch(): boolean {
    return this.#requests.length > 1;
  }

  getBatchSize(): number {
    return this.#requests.length;
  }

  /** One Input a request. */
  getBatches(): Input[] {
    return this.#requests.map((request) => new Input([request], this.signal));
  }

  getProperties(): Readonly<Record<string, string>> {
    return this.#first().properties;
  }

  getProperty(key: string, otherwise: string | null = null): string | null {
    return this.getProperties()[key.toLowerCase()] ?? otherwise;
  }

  getRequestId(): string {
    return this.#first().requestId;
  }

  getKeys(): string[] {
    return this.#first().content.map(({ key }) => key);
  }

  containsKey(key: string): boolean {
    return this.#first().content.some((part) => part.key === key);
  }

  /** @param key absent: `data`, or else the first part */
  getAsBytes(key?: string): Uint8Array {
    const { content } = this.#first();
    const part =
      key === undefined
        ? (content.find((one) => one.key === 'data') ?? content[0])
        : content.find((one) => one.key === key);
    if (part === undefined)
      throw new Error(key === undefined ? 'The request has no body' : `The request has no part ${key}`);
    return part.bytes;
  }

  getAsString(key?: string): string {
    return text.decode(this.getAsBytes(key));
  }

  getAsJson(key?: string): unknown {
    return JSON.parse(this.getAsString(key)) as unknown;
  }

  #first(): HandlerRequest {
    const [first] = this.#requests;
    if (first === undefined) throw new Error('This call is empty: look at isEmpty() first');
    return first;
  }
}
