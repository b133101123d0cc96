/**
 * What a handler of DJLServing's shape answers: `return new Output().add({ … })`.
 *
 * In      values: text, bytes, anything else as JSON; one a request of a batch (`batchIndex`); or a stream of them
 * Out     read by the process that runs the handler
 * Source  DJLServing's Python Output, in this language's spelling
 */

export type OutputValue = string | Uint8Array | object | number | boolean | null;

export interface OutputEntry {
  value: OutputValue;
  key: string | null;
  batchIndex: number | null;
}

export class Output {
  code: number;
  message: string;
  readonly entries: OutputEntry[] = [];
  readonly properties: Record<string, string> = {};
  stream: AsyncIterable<OutputValue> | Iterable<OutputValue> | null = null;

  constructor(code = 200, message = 'OK') {
    this.code = code;
    this.message = message;
  }

  /** An answer that says what went wrong; `code` is its HTTP status. */
  static error(error: unknown, code = 424, message = 'invoke handler failure'): Output {
    const output = new Output(code, message);
    output.addProperty('Content-Type', 'application/json');
    return output.add({ code, message, error: error instanceof Error ? error.message : String(error) });
  }

  add(value: OutputValue, key: string | null = null, batchIndex: number | null = null): this {
    this.entries.push({ value, key, batchIndex });
    return this;
  }

  /** Also of what would be sent as text or bytes. */
  addAsJson(value: unknown, key: string | null = null, batchIndex: number | null = null): this {
    this.addProperty('Content-Type', 'application/json');
    return this.add(JSON.stringify(value), key, batchIndex);
  }

  /** A header of the answer. */
  addProperty(key: string, value: string): this {
    this.properties[key.toLowerCase()] = value;
    return this;
  }

  /** The answer comes in pieces, each of which is sent as it is made; objects are JSON lines. */
  addStreamContent(stream: AsyncIterable<OutputValue> | Iterable<OutputValue>): this {
    this.stream = stream;
    return this;
  }
}
