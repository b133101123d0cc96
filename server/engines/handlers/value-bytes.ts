/**
 * A value that a handler answers with, as bytes: text as it is, bytes as they are, all else as JSON.
 *
 * Limits  MAX_ANSWER_BYTES
 * Errors  WrongAnswer
 */

export const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

/** The handler answered, but not as it must. */
export class WrongAnswer extends Error {}

export interface EncodedValue {
  bytes: Uint8Array;
  contentType: string;
}

/** @throws WrongAnswer */
export function encodedValue(value: unknown): EncodedValue {
  const encoded = plainValue(value) ?? { bytes: Buffer.from(json(value)), contentType: 'application/json' };
  if (encoded.bytes.byteLength > MAX_ANSWER_BYTES) {
    throw new WrongAnswer(
      `an answer has ${encoded.bytes.byteLength} bytes, of at most ${MAX_ANSWER_BYTES}: stream it`,
    );
  }
  return encoded;
}

/** One of several: objects are JSON lines. @throws WrongAnswer */
export function encodedChunk(value: unknown): EncodedValue {
  return (
    plainValue(value) ?? { bytes: Buffer.from(`${json(value)}\n`), contentType: 'application/jsonlines' }
  );
}

function plainValue(value: unknown): EncodedValue | null {
  if (typeof value === 'string') {
    return { bytes: Buffer.from(value, 'utf8'), contentType: 'text/plain; charset=utf-8' };
  }
  return value instanceof Uint8Array ? { bytes: value, contentType: 'application/octet-stream' } : null;
}

function json(value: unknown): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value, (_key, one: unknown) => (ArrayBuffer.isView(one) ? plainList(one) : one));
  } catch (error) {
    throw new WrongAnswer(`an answer cannot be JSON: ${(error as Error).message}`);
  }
  if (text === undefined) throw new WrongAnswer(`an answer is ${typeof value}, which is no value`);
  return text;
}

/** Typed arrays are lists of numbers; of 64 bits as far as a number goes. */
const plainList = (view: ArrayBufferView): number[] =>
  view instanceof DataView ? [] : Array.from(view as unknown as ArrayLike<number | bigint>, Number);
